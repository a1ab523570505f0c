"""How batches have ended is kept in one piece of memory, and nothing of it is lost there."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest_service.domain.model import Outcome
from ingest_service.engines.embedded.journals import settled_log
from ingest_service.engines.embedded.journals.settled_log import SettledBatch, SettledLog
from ingest_service.engines.outcomes import encode_outcomes

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("narrow", [settled_log._NARROW, 100])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3), st.booleans()), max_size=30))
def test_every_end_is_there_in_its_order(
    narrow: int, monkeypatch: pytest.MonkeyPatch, ends: list[tuple[int, int, bool]]
) -> None:
    """Whatever the order of the batches, of starts that were lost, and beyond four bytes too."""
    log, expected = SettledLog(), defaultdict[int, list[SettledBatch]](list)
    with monkeypatch.context() as patch:
        patch.setattr(settled_log, "_NARROW", narrow)
        for number, (index, further, whole) in enumerate(ends):
            start_no = log.last_start_no(index) + further
            outcomes = [Outcome(succeeded=True, processed_data=number)] * 2
            offsets = None if whole else [1, 9_999]
            at = NOW + timedelta(microseconds=number)
            settled = SettledBatch(start_no, at, offsets, encode_outcomes(outcomes))
            log.add(index, settled)
            log.add(index, settled)
            expected[index].append(settled)

    assert {index: log.of_batch(index) for index in expected} == expected
    assert log.of_batch(6) == []
    assert log.start_counts() == {index: some[-1].start_no for index, some in expected.items()}
