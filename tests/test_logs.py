"""Trouble that lasts is said once, then now and then, and when it is over."""

import logging

import pytest

from ingest_service.logs import Trouble


def test_trouble_is_said_with_growing_pauses_and_when_it_heals(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At once, after 1, 2, 4 ... and at most every 60 s; the next one begins anew."""
    caplog.set_level(logging.INFO, "ingest_service")
    now = [100.0]
    trouble = Trouble("storage", lambda: now[0])
    said_at = []
    for tenth in range(3_000):
        now[0] = 100.0 + tenth / 10
        trouble.occurred("the disk is full")
        if caplog.records:
            said_at.append(now[0] - 100)
            caplog.clear()

    assert said_at == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]
    trouble.over()
    trouble.over()
    trouble.occurred("full again")
    healed, again = caplog.records
    assert (healed.message, healed.levelno) == ("storage_healed", logging.INFO)
    assert healed.__dict__["fields"] == {"failures": 3_000, "seconds": 299.9}
    assert (again.message, again.levelno) == ("storage_failed", logging.ERROR)
    assert again.__dict__["fields"] == {"reason": "full again", "failures": 1}
