"""Where it stands, when it will be finished, and the one reason why it waits."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest_service.domain.model import Batch, Outcome, WaitCode
from ingest_service.settings import Settings
from tests.support import Api, serving
from tests.web.support import FINE

LATER = Outcome(succeeded=False, error="later", transient=True)


def once(outcome: Outcome) -> Callable[[Batch], Any]:
    """Answer the first batch with `outcome` and all others with success."""
    left = iter([outcome])
    return lambda batch: [next(left, FINE)] + [FINE] * (len(batch.items) - 1)


def clock_time(seconds: float) -> str:
    """Return the time `seconds` after the test began, as answers write it."""
    return f"2026-01-01T12:{int(seconds) // 60:02}:{seconds % 60:06.3f}Z"


def eta(api: Api, ingestion_id: str) -> tuple[str | None, str | None] | None:
    """Return when the next batch starts and when everything has ended."""
    found = api.status(ingestion_id)["eta"]
    return found and (found["next_start_at"], found["finish_at"])


def place(api: Api, ingestion_id: str) -> tuple[int, int] | None:
    """Return the position and the batches ahead."""
    found = api.status(ingestion_id)["queue"]
    return found and (found["position"], found["batches_ahead"])


def why(api: Api, ingestion_id: str) -> tuple[str, str | None]:
    """Return why it waits, and until when."""
    found = api.status(ingestion_id)["why_waiting"]
    assert found["code"] in list(WaitCode)
    assert found["message"].endswith(".")
    return found["code"], found["until"]


class TestPlace:
    """Position, batches ahead, next start and end."""

    def test_everybody_knows_their_place_in_a_line_of_several_classes(self, api: Api) -> None:
        """Position counts ingestions, the rest counts batches; then exactly that happens."""
        ids = [
            api.ingest(range(first * 10 + 1, first * 10 + 1 + size), priority)
            for first, (size, priority) in enumerate(
                [(4, "LOW"), (7, "MEDIUM"), (1, "HIGH"), (3, "MEDIUM"), (6, "HIGH")]
            )
        ]
        offsets = [place(api, each) for each in ids]
        etas = [eta(api, each) for each in ids]

        assert offsets == [(5, 7), (3, 3), (1, 0), (4, 6), (2, 1)]
        assert etas == [
            (clock_time(35.45), clock_time(41.45)),
            (clock_time(15.45), clock_time(26.45)),
            (clock_time(0.45), clock_time(1.45)),
            (clock_time(30.45), clock_time(31.45)),
            (clock_time(5.45), clock_time(11.45)),
        ]
        api.advance(60)
        found = [api.status(each) for each in ids]
        assert [(each["started_at"], each["finished_at"]) for each in found] == etas

    def test_it_moves_up_as_others_are_served(self, api: Api) -> None:
        api.ingest(range(1, 7))
        last = api.ingest([7])
        seen = []
        for seconds in (0, 0.45, 5, 5):
            api.advance(seconds)
            seen.append((place(api, last), eta(api, last)))

        end = clock_time(11.45)
        assert seen == [
            ((2, 2), (clock_time(10.45), end)),
            ((2, 1), (clock_time(10.45), end)),
            ((1, 0), (clock_time(10.45), end)),
            (None, (None, end)),
        ]

    def test_being_overtaken_shows_at_once(self, api: Api) -> None:
        ingestion_id = api.ingest(range(1, 7), "LOW")
        api.advance(1)
        before = place(api, ingestion_id), eta(api, ingestion_id)
        api.ingest(range(11, 18), "HIGH")
        after = place(api, ingestion_id), eta(api, ingestion_id)
        api.advance(60)

        assert before == ((1, 0), (clock_time(5.45), clock_time(6.45)))
        assert after == ((2, 3), (clock_time(20.45), clock_time(21.45)))
        assert api.status(ingestion_id)["finished_at"] == clock_time(21.45)

    def test_while_its_last_batch_is_under_way_only_the_end_is_ahead(self, api: Api) -> None:
        ingestion_id = api.ingest([1])
        api.advance(1)
        found = api.status(ingestion_id)

        assert found["queue"] is None
        assert found["eta"] == {
            "next_start_at": None,
            "finish_at": clock_time(1.45),
            "latest_finish_at": None,
        }

    def test_what_is_finished_has_nothing_ahead(self, api: Api) -> None:
        ingestion_id = api.ingest([1])
        api.advance(5)
        found = api.status(ingestion_id)
        assert (found["queue"], found["eta"], found["why_waiting"]) == (None, None, None)

    def test_a_slow_upstream_is_counted_in(self, api: Api) -> None:
        """One batch at a time, so starts are as far apart as a batch takes."""
        api.upstream.latency = 7
        ingestion_id = api.ingest(range(1, 10))
        assert eta(api, ingestion_id) == (clock_time(0.45), clock_time(21.45))
        api.advance(1)
        assert eta(api, ingestion_id) == (clock_time(7.45), clock_time(21.45))
        api.advance(30)
        assert api.status(ingestion_id)["finished_at"] == clock_time(21.45)

    def test_a_retry_to_come_is_counted_in(self, api: Api) -> None:
        api.upstream.reply = once(LATER)
        ingestion_id = api.ingest([1])
        api.advance(1.5)
        assert place(api, ingestion_id) == (1, 0)
        assert eta(api, ingestion_id) == (clock_time(5.45), clock_time(6.45))
        api.advance(10)
        assert api.status(ingestion_id)["finished_at"] == clock_time(6.45)


class TestWhy:
    """Each reason in its situation, with the instant at which it ends."""

    def test_settling(self, api: Api) -> None:
        assert why(api, api.ingest([1])) == ("settling", clock_time(0.45))

    def test_rate_limit(self, api: Api) -> None:
        """It is next, and would be sent now if there were no interval."""
        ingestion_id = api.ingest(range(1, 7))
        api.advance(2)
        assert why(api, ingestion_id) == ("rate_limit", clock_time(5.45))

    def test_rate_limit_lasts_longer_than_settling(self, api: Api) -> None:
        api.ingest([1])
        api.advance(2)
        assert why(api, api.ingest([2])) == ("rate_limit", clock_time(5.45))

    def test_in_line(self, api: Api) -> None:
        """Until its own turn, not only until the one before it."""
        api.ingest(range(1, 10))
        ingestion_id = api.ingest([10])
        api.advance(2)
        assert why(api, ingestion_id) == ("in_line", clock_time(15.45))

    def test_higher_priority(self, api: Api) -> None:
        """Whatever else is before it."""
        api.ingest([1], "MEDIUM")
        ingestion_id = api.ingest([2], "MEDIUM")
        api.ingest([3], "HIGH")
        api.advance(0.2)
        assert why(api, ingestion_id) == ("higher_priority", clock_time(10.45))

    def test_paused(self, api: Api) -> None:
        """Nobody knows until when; what is under way does not wait for that."""
        running, waiting = api.ingest([1]), api.ingest([2])
        api.advance(1)
        api.client.post("/queue/pause", json={"reason": "x"})
        assert why(api, waiting) == ("paused", None)
        assert api.status(waiting)["eta"] is None
        assert why(api, running) == ("max_concurrent", clock_time(1.45))
        assert eta(api, running) == (None, clock_time(1.45))

    def test_upstream_hold(self, api: Api) -> None:
        """Everybody who waits, whatever their class."""
        api.upstream.reply = once(
            Outcome(succeeded=False, transient=True, error="no", retry_after=20.0)
        )
        api.ingest([1])
        api.advance(3)
        ids = [api.ingest([item], priority) for item, priority in ((2, "HIGH"), (3, "LOW"))]
        assert [why(api, each) for each in ids] == [("upstream_hold", clock_time(21.45))] * 2
        assert eta(api, ids[0]) == (clock_time(21.45), clock_time(22.45))
        queue, health = (api.client.get(path).get_json() for path in ("/queue", "/health"))
        assert (queue["state"], queue["until"]) == ("held", clock_time(21.45))
        assert (health["queue"], health["until"]) == ("held", clock_time(21.45))
        assert queue["reason"] == health["reason"] == "the upstream asked for it"
        api.advance(60)
        assert api.status(ids[0])["started_at"] == clock_time(21.45)

    def test_upstream_hold_when_nobody_is_there(self, api: Api) -> None:
        """Until it is asked for again."""
        gone = Outcome(succeeded=False, transient=True, error="no", unreachable=True)
        api.upstream.reply = lambda batch: [gone] * len(batch.items)
        ingestion_id = api.ingest(range(1, 10))
        api.advance(6.5)
        found = api.status(ingestion_id)["why_waiting"]
        assert found["code"] == "upstream_hold"
        assert found["message"] == "The upstream is not there."
        queue = api.client.get("/queue").get_json()
        assert (queue["state"], queue["reason"]) == ("held", "the upstream cannot be reached")
        assert queue["until"] == found["until"] == clock_time(11.45)

    def test_retry_backoff(self, api: Api) -> None:
        """As long as all that is left of it waits for another attempt."""
        api.upstream.reply = lambda batch: [LATER]
        ingestion_id = api.ingest([1])
        api.advance(20)
        assert [at for at, _ in api.sent()] == [0.45, 5.45, 10.45, 15.45]
        assert why(api, ingestion_id) == ("retry_backoff", clock_time(24.45))
        assert eta(api, ingestion_id) == (clock_time(24.45), clock_time(25.45))

    def test_max_concurrent(self, api: Api) -> None:
        """The interval is over and the batch before it is not."""
        api.upstream.latency = 12
        running, waiting = api.ingest([1]), api.ingest([2])
        api.advance(2)
        assert why(api, running) == ("max_concurrent", clock_time(12.45))
        assert why(api, waiting) == ("max_concurrent", clock_time(12.45))
        api.advance(8)
        assert why(api, waiting) == ("max_concurrent", clock_time(12.45))
        api.advance(2.5)
        assert why(api, waiting) == ("max_concurrent", clock_time(24.45))
        assert api.status(waiting)["started_at"] == clock_time(12.45)

    def test_a_retry_that_is_due_before_the_slot_is_ahead(self, api: Api) -> None:
        """Place, reason and time are those of what will happen."""
        api.upstream.reply = once(LATER)
        first, second = api.ingest([1]), api.ingest([2])
        api.advance(2)
        assert place(api, first) == (1, 0)
        assert place(api, second) == (2, 1)
        assert why(api, second) == ("in_line", clock_time(10.45))
        newcomer = api.ingest([3], "HIGH")
        assert place(api, newcomer) == (1, 0)
        assert why(api, newcomer) == ("rate_limit", clock_time(5.45))
        assert why(api, second) == ("higher_priority", clock_time(15.45))
        api.advance(60)
        assert [items for _, items in api.sent()] == [[1], [3], [1], [2]]

    def test_a_retry_that_is_due_after_the_slot_is_behind(self) -> None:
        """Another one takes the slot before it."""
        settings = Settings(backoff=30)
        with serving(settings, threaded=False) as api:
            api.upstream.reply = once(LATER)
            first, second = api.ingest([1]), api.ingest([2])
            api.advance(2)
            assert place(api, first) == (2, 1)
            assert place(api, second) == (1, 0)
            assert why(api, second) == ("rate_limit", clock_time(5.45))

    @pytest.mark.parametrize(("seconds", "reason"), [(40.0, "asked"), (0.5, "reached")])
    def test_everybody_gives_the_same_reason_for_a_hold(
        self, api: Api, seconds: float, reason: str
    ) -> None:
        """Nobody is there, and it was asked for as well: the one that lasts longer."""
        gone = Outcome(
            succeeded=False, transient=True, error="no", unreachable=True, retry_after=seconds
        )
        api.upstream.reply = lambda batch: [gone] * len(batch.items)
        ingestion_id = api.ingest(range(1, 10))
        api.advance(2)
        while api.client.get("/health").get_json()["reason"] is None or len(api.sent()) < 2:
            api.advance(1)
        found = api.status(ingestion_id)["why_waiting"]
        queue, health = (api.client.get(path).get_json() for path in ("/queue", "/health"))
        assert reason in queue["reason"]
        assert queue["reason"] == health["reason"]
        assert ("asked" in found["message"]) == (reason == "asked")
        assert found["until"] == queue["until"] == health["until"]


class Whims:
    """An upstream that does what was drawn."""

    def __init__(self, drawn: list[Outcome]) -> None:
        self._left = iter(drawn)

    def __call__(self, batch: Batch) -> list[Outcome]:
        return [next(self._left, FINE) for _ in batch.items]


@hypothesis_settings(max_examples=25, phases=[Phase.generate, Phase.shrink])
@given(
    outcomes=st.lists(
        st.sampled_from([FINE, LATER, Outcome(succeeded=False, error="no")])
        | st.builds(
            lambda hold: Outcome(succeeded=False, error="slow", transient=True, retry_after=hold),
            st.floats(1, 30),
        ),
        max_size=20,
    ),
    posted=st.lists(
        st.tuples(st.integers(1, 7), st.sampled_from(["HIGH", "MEDIUM", "LOW"])),
        min_size=1,
        max_size=4,
    ),
    policy=st.sampled_from(["strict", "aged", "weighted"]),
    latency=st.sampled_from([0.0, 1.0, 7.5]),
    concurrent=st.integers(1, 2),
    pause_at=st.integers(0, 25),
)
def test_every_unfinished_ingestion_has_exactly_one_reason_at_every_moment(
    outcomes: list[Outcome],
    posted: list[tuple[int, str]],
    policy: str,
    latency: float,
    concurrent: int,
    pause_at: int,
) -> None:
    """And a time in the future or none; a finished one has none of it."""
    settings = Settings(policy=policy, max_concurrent_batches=concurrent)
    with serving(settings, threaded=False) as api:
        api.upstream.reply, api.upstream.latency = Whims(outcomes), latency
        ids = [api.ingest(range(1, size + 1), priority) for size, priority in posted]
        for turn in range(25):
            if turn == pause_at:
                api.client.post("/queue/pause")
            if turn == pause_at + 3:
                api.client.post("/queue/resume")
                api.advance(0)
            now = api.client.get("/health").get_json()["timestamp"]
            for each in ids:
                found = api.status(each)
                reason, expected = found["why_waiting"], found["eta"]
                if found["finished_at"]:
                    assert (reason, expected, found["queue"]) == (None, None, None)
                    continue
                assert reason["code"] in list(WaitCode)
                assert reason["until"] is None or reason["until"] >= now
                assert (reason["until"] is None) == (reason["code"] == "paused")
                assert expected is None or expected["finish_at"] >= now
                assert (expected is None) == (reason["code"] == "paused")
            api.advance(2.3)
