"""Errors as values: they go from one process to another."""

import pickle

import pytest

from ingest_service.client import (
    BadAnswer,
    Busy,
    IngestClient,
    Ingestion,
    NotFound,
    Problem,
    Refused,
    TimedOut,
    Unreachable,
)

PROBLEM = Problem("/problems/x", "title", 503, "detail")


@pytest.mark.parametrize("kind", [Refused, NotFound, Busy])
def test_a_refusal_is_the_same_in_another_process(kind: type[Refused]) -> None:
    error = kind(PROBLEM, 3.0)
    error.key, error.uncertain = "k", True
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is kind
    assert (copy.problem, copy.retry_after, str(copy)) == (PROBLEM, 3.0, "detail")
    assert (copy.key, copy.uncertain) == ("k", True)


@pytest.mark.parametrize("kind", [Unreachable, BadAnswer, TimedOut])
def test_any_error_keeps_what_had_been_accepted(kind: type[Unreachable]) -> None:
    client = IngestClient("http://127.0.0.1:1", key="ik_12345678_secret", timeout=3.0)
    error = kind("why")
    error.accepted = (Ingestion(client, "x", items=3, key="k"),)
    text = pickle.dumps(error)
    copy = pickle.loads(text)  # noqa: S301
    assert (str(copy), copy.accepted) == ("why", error.accepted)
    assert b"secret" not in text
