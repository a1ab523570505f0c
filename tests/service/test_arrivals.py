"""Random arrivals against a naive model of the promise."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest_service.settings import Settings
from tests.support import Api, serving

# Quarters are exact in floats, so instants can be compared for equality.
SETTINGS = Settings(settle=0.5)
RANKS = {"HIGH": 1, "MEDIUM": 2, "LOW": 3}
FORWARD = ["yet_to_start", "triggered", "completed"]


@dataclass(frozen=True)
class Arrival:
    """A request, `after` seconds after the one before it."""

    after: float
    priority: str
    size: int


quarters = st.integers(0, 60).map(lambda n: n / 4)
arrivals = st.lists(
    st.builds(Arrival, quarters, st.sampled_from(list(RANKS)), st.integers(1, 8)), max_size=12
)


def expected_starts(requests: list[Arrival], latency: float) -> list[tuple[float, list[int]]]:
    """Work out by hand what is sent when: one list of batches, sorted anew for every slot."""
    at, coming = 0.0, []
    for number, request in enumerate(requests):
        at += request.after
        ids = [number * 100 + n for n in range(1, request.size + 1)]
        batches = [ids[n : n + 3] for n in range(0, len(ids), 3)]
        coming.append((at, [(RANKS[request.priority], number, batch) for batch in batches]))

    starts: list[tuple[float, list[int]]] = []
    waiting: list[tuple[int, int, list[int]]] = []
    next_at = busy_until = filled_at = 0.0
    while coming or waiting:
        if not waiting:
            filled_at = coming[0][0]
        opens_at = max(next_at, busy_until, filled_at + SETTINGS.settle)
        if coming and (not waiting or coming[0][0] < opens_at):
            waiting += coming.pop(0)[1]
            continue
        waiting.sort()
        starts.append((opens_at, waiting.pop(0)[2]))
        next_at, busy_until = opens_at + SETTINGS.interval, opens_at + latency
    return starts


def check_document(document: dict[str, Any], seen: list[str]) -> list[str]:
    """Check what holds for every status at any time; return its states."""
    counts = document["counts"]
    now = [document["status"], *(batch["status"] for batch in document["batches"])]
    assert sum(counts.values()) == 2 * counts["total"]
    assert document["progress"] == counts["succeeded"] * 100 // counts["total"]
    assert (document["progress"] == 100) == (document["status"] == "completed")
    for before, after in zip(seen, now, strict=False):
        assert FORWARD.index(before) <= FORWARD.index(after), "a state ran backwards"
    return now


def play(api: Api, requests: list[Arrival], end: float) -> None:
    """Post the requests at their times, looking at everything each time."""
    seen: dict[str, list[str]] = {}
    for number, request in enumerate([*requests, None]):
        api.advance(request.after if request else end)
        for ingestion_id, states in seen.items():
            seen[ingestion_id] = check_document(api.status(ingestion_id), states)
        if request:
            ids = range(number * 100 + 1, number * 100 + 1 + request.size)
            seen[api.ingest(ids, request.priority)] = []
    assert all(set(states) == {"completed"} for states in seen.values())


@given(requests=arrivals, latency=quarters)
def test_what_is_sent_when_is_what_the_model_says(requests: list[Arrival], latency: float) -> None:
    """For any arrivals and any latency: order, instants, sizes, and states that only advance."""
    expected = expected_starts(requests, latency)
    with serving(SETTINGS, threaded=False) as api:
        api.upstream.latency = latency
        play(api, requests, end=1_000)

        assert api.sent() == expected


@given(requests=arrivals, interval=st.integers(1, 40).map(lambda n: n / 10))
def test_starts_are_never_closer_than_the_interval(
    requests: list[Arrival], interval: float
) -> None:
    """Also for intervals that floats cannot express."""
    with serving(replace(SETTINGS, interval=interval), threaded=False) as api:
        api.upstream.latency = 0.0
        play(api, requests, end=1_000)
        instants = [at for at, _ in api.upstream.starts]

    assert all(later - earlier >= interval - 1e-6 for earlier, later in pairwise(instants))
