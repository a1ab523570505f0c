"""Nothing that grows with a request is done while the server waits for us in a transaction.

It would end the transaction of a process that is slow, and the same again at every other try.
"""

import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import orjson
import psycopg
import pytest

from ingest_service.domain.model import Outcome
from ingest_service.settings import Settings
from tests.service.operating import retry
from tests.support import Api

#: What makes, reads, packs and unpacks texts.
_HEAVY = (orjson.dumps, orjson.loads, zlib.compress, zlib.decompress)
_OPEN = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
"""


@pytest.fixture
def settings() -> Settings:
    """Return settings under which a batch is a piece of content."""
    return Settings(settle=0, batch_size_mappings=600)


@pytest.fixture
def seen(database: str) -> Iterator[list[tuple[str, str]]]:
    """Give a list of what was done by whom within a transaction."""
    calls: list[tuple[str, str]] = []
    with psycopg.connect(database, autocommit=True) as connection, _profiled() as heavy:

        def note(frame: FrameType, function: Any) -> None:
            (number,) = connection.execute(_OPEN).fetchone() or (0,)
            if number:
                calls.append((function.__name__, frame.f_code.co_qualname))

        heavy.append(note)
        yield calls


@contextmanager
def _profiled() -> Iterator[list[Any]]:
    notes: list[Any] = []

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call" and any(argument is function for function in _HEAVY):
            for note in notes:
                note(frame, argument)

    sys.setprofile(profile)
    yield notes
    sys.setprofile(None)


def _mappings() -> dict[str, Any]:
    names = (f"some-name-{number}" for number in range(600))
    mappings = [{"id": name, "source": "here", "target": "there"} for name in names]
    return {"mappings": mappings, "priority": "LOW"}


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "one"}], ids=["plain", "with a key"])
def test_all_the_life_of_a_request(
    pg: Api, seen: list[tuple[str, str]], headers: dict[str, str]
) -> None:
    pg.upstream.reply = lambda batch: [
        Outcome(succeeded=number % 2 == 0, error="no" if number % 2 else None)
        for number in range(len(batch.items))
    ]
    answer = pg.client.post("/ingest", json=_mappings(), headers=headers)
    ingestion_id = answer.get_json()["request_id"]
    pg.advance(10)
    assert len(pg.results(ingestion_id)["results"]) > 0
    assert pg.status(ingestion_id)["outcome"] == "partially_failed"
    retry(pg, ingestion_id)
    pg.advance(10)

    assert seen == []
