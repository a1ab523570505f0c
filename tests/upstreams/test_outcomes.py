"""What is kept of an outcome, and integers of any size."""

import json
import math
from http import HTTPStatus
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service import json_text
from ingest_service.domain.model import Outcome
from ingest_service.engines import calls
from ingest_service.upstreams.outcomes import (
    MOST_BESIDE,
    all_bounded,
    bounded,
    encoded_size,
    seconds_asked,
)
from ingest_service.upstreams.protocol import FinishedCall
from tests.upstreams.calls import batch_of

MOST = 1_000


class Odd:
    """Cannot be written as JSON."""


def ring() -> list[Any]:
    """Return what contains itself."""
    itself: list[Any] = []
    itself.append(itself)
    return itself


def deep(depth: int) -> list[Any]:
    """Return lists in lists."""
    nested: list[Any] = []
    for _ in range(depth - 1):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(True, {"a": [1, None, 2.5]}, status_code=200, attempts=3),
        Outcome(False, error="no", transient=True, unreachable=True, unsent=True),
        Outcome(False, error="wait", status_code=429, transient=True, retry_after=7.0),
        Outcome(True, 2**70),
        Outcome(True, {"a": [-(10**300)]}),
        Outcome(True, deep(250)),
    ],
)
def test_what_can_be_kept_stays_as_it_is(outcome: Outcome) -> None:
    """Integers beyond 64 bits too."""
    assert bounded(outcome, MOST) == outcome


@pytest.mark.parametrize(
    "data",
    [Odd(), ring(), {1: 2}, {1: 2**70}, "\ud800", [2**70, "\ud800"], 10**5_000, deep(254), {1}],
    ids=str.split("object ring int-key int-keys surrogate surrogates digits deep set"),
)
def test_what_is_not_json_has_failed_in_words(data: Any) -> None:
    """Never with an exception."""
    reason = "The answer cannot be kept: it is not JSON."
    assert bounded(Outcome(True, data), MOST) == Outcome(succeeded=False, error=reason)


def test_what_is_no_outcome_has_failed_in_words() -> None:
    """As if the upstream had crashed."""
    kept = bounded("fine", MOST)
    assert (kept.succeeded, kept.error) == (False, "The upstream crashed: TypeError, str.")


@pytest.mark.parametrize("data", ["x" * MOST, ["\u00fc"] * 400, 10 ** (MOST + 1)])
def test_an_outcome_larger_than_allowed_has_failed_in_words(data: Any) -> None:
    """What counts is the text, in bytes."""
    kept = bounded(Outcome(True, data, status_code=200), MOST)
    reason = "The answer is larger than 1000 bytes."
    assert kept == Outcome(succeeded=False, error=reason, status_code=200)


@pytest.mark.parametrize("status_code", [None, 200])
@pytest.mark.parametrize("data", ["x" * 98, {"a": ["\u00fc"] * 17 + [1234567]}, 10**99])
def test_the_limit_itself_is_allowed(data: Any, status_code: int | None) -> None:
    """And one byte less is not; whatever else is kept of an outcome does not count."""
    outcome = Outcome(True, data, status_code=status_code)
    assert len(json_text.dumps(data)) == 100
    assert bounded(outcome, 100) == outcome
    assert all_bounded([outcome] * 2, 100) == [outcome] * 2
    assert not bounded(outcome, 99).succeeded


@pytest.mark.parametrize(
    "outcome",
    [Outcome(True, status_code=204), Outcome(False, error="x" * 2_000, transient=True)],
)
def test_where_there_is_no_answer_it_is_not_too_large(outcome: Outcome) -> None:
    """Not even where next to nothing is allowed."""
    assert bounded(outcome, 1) == outcome


@pytest.mark.parametrize("error", [None, "\x01" * 2_000, "\U0001f600" * 2_000])
def test_how_much_is_kept_besides_the_data_is_bounded(error: str | None) -> None:
    """However it is written."""
    size = encoded_size(Outcome(error is None, "x", error=error, status_code=999))
    assert size - len(b'"x"') <= MOST_BESIDE


@pytest.mark.parametrize(
    "outcomes",
    [
        [Outcome(True, {"a": 1}, status_code=200), Outcome(True, [2])],
        [Outcome(True, "x" * 600), Outcome(True, "y" * 600)],
        [Outcome(True, 1), Outcome(True, "x" * MOST)],
        [Outcome(True, deep(250)), Outcome(True, deep(254))],
        [Outcome(True, 1), Outcome(True, Odd())],
        [Outcome(True, 1), Outcome(True, cast(Any, 2), status_code=1_000)],
        [Outcome(True, 1), Outcome(False, error="x" * 2_001)],
        [Outcome(True, 1), "fine"],
        [],
    ],
    ids=str.split("small large-together large deep odd status error nonsense none"),
)
def test_outcomes_are_kept_together_as_they_are_one_by_one(outcomes: list[Any]) -> None:
    """They may come one at a time as well."""
    expected = [bounded(outcome, MOST) for outcome in outcomes]
    assert all_bounded(iter(outcomes), MOST) == expected


def test_what_is_kept_besides_the_data_counts_for_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three of 100 bytes each are more than 300 together."""
    monkeypatch.setattr(calls, "MOST_OF_BATCH", 300)
    answered = [Outcome(True, "x" * 98, status_code=200)] * 3
    kept = calls.outcomes_of(FinishedCall(answered), batch_of(1, 2, 3), 100)
    reason = "The answers of the batch are larger than 300 bytes together."
    assert kept == [*answered[:2], Outcome(succeeded=False, error=reason, status_code=200)]


def test_a_long_error_is_cut() -> None:
    """Its beginning says the most."""
    error = bounded(Outcome(False, error="\u00fc" * 2_001), 10_000).error
    assert error == "\u00fc" * 1_999 + "\u2026"
    assert bounded(Outcome(False, error="x" * 2_000), 10_000).error == "x" * 2_000


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        (Outcome(False, error=cast(str, 404)), Outcome(False, error="404")),
        (Outcome(False, error=cast(str, {"a": 1})), Outcome(False, error='{"a":1}')),
        (Outcome(cast(bool, 1), transient=True, unreachable=True, unsent=True), Outcome(True)),
        (Outcome(False, retry_after=cast(float, "7")), Outcome(False)),
        (Outcome(False, retry_after=math.nan), Outcome(False)),
        (Outcome(False, retry_after=-5), Outcome(False)),
        (Outcome(True, status_code=HTTPStatus.OK), Outcome(True, status_code=200)),
        (Outcome(True, status_code=cast(int, "200")), Outcome(True)),
        (Outcome(True, status_code=2**70), Outcome(True)),
    ],
)
def test_fields_get_the_right_types_and_do_not_contradict_each_other(
    outcome: Outcome, kept: Outcome
) -> None:
    """A connector can write anything into them."""
    tidied = bounded(outcome, MOST)
    assert tidied == kept
    assert type(tidied.status_code) in (int, type(None))
    assert type(tidied.succeeded) is bool


def test_an_error_that_is_not_json_fails_the_item() -> None:
    """Whatever it was about."""
    assert "not JSON" in str(bounded(Outcome(False, error=cast(str, Odd())), MOST).error)


@pytest.mark.parametrize(
    "text",
    [
        "18446744073709551616",
        "-9223372036854775809",
        '{"a":[123456789012345678901234567890,0.1]}',
        "9" * 400,
        '"1234567890123456789012345"',
        "0.1234567890123456789012345",
    ],
)
def test_integers_are_read_and_written_exactly(text: str) -> None:
    """As Python does it."""
    value = json_text.loads(text.encode())
    assert value == json.loads(text)
    assert type(value) is type(json.loads(text))
    assert json.loads(json_text.dumps(value)) == value


@pytest.mark.parametrize("filler", ["", "[12345678901234567890123],"])
@pytest.mark.parametrize(
    "text",
    ["NaN", "Infinity", "-Infinity", "1e400", "9" * 5_000, "[" * 100_000, '"\xff"', "{1:2}", "01"],
    ids=lambda text: text[:9],
)
def test_what_is_not_json_is_a_value_error(filler: str, text: str) -> None:
    """Whichever parser is used."""
    with pytest.raises(ValueError):  # noqa: PT011 - each parser has words of its own
        json_text.loads(f"[{filler}{text}]".encode("latin-1"))


@pytest.mark.parametrize("filler", [b"", b'"b":12345678901234567890123,'])
def test_the_last_of_two_equal_keys_counts(filler: bytes) -> None:
    """Whichever parser is used."""
    assert json_text.loads(b"{" + filler + b'"a":1,"a":2}')["a"] == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON | st.integers(-(2**200), 2**200), st.integers(2**64, 2**80))
def test_whatever_is_written_is_read_again(value: Any, long: int) -> None:
    """With and without an integer that is too long for the fast way."""
    if value in (math.inf, -math.inf) or "Infinity" in json.dumps(value):
        return
    for written in (value, [long, value]):
        assert json_text.loads(json_text.dumps(written)) == written


def test_ordinary_text_is_written_by_orjson() -> None:
    """Byte for byte."""
    value = {"a": [1, "\u00fc", None, 2**64 - 1, -(2**63)]}
    assert json_text.dumps(value) == orjson.dumps(value)


def test_a_hold_may_be_any_number() -> None:
    """An API can answer with more digits than a float has."""
    assert seconds_asked(Outcome(succeeded=False, retry_after=10**400)) == 1e9
