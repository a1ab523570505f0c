"""You always know: place in the line, when it will be done, why it waits, and the first change."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

import pytest
from flask.testing import FlaskClient
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from ingest_service.app import Parts, build, create_app
from ingest_service.clock import SystemClock
from ingest_service.domain.model import Batch, Outcome, WaitCode
from ingest_service.domain.retry_policy import RetryPolicy
from ingest_service.service import service as service_module
from ingest_service.settings import Settings
from ingest_service.upstreams.protocol import Call, FinishedCall
from tests.support import GUARD, Api, FrozenClock, serving

LATER = Outcome(succeeded=False, error="later", transient=True)
FINE = Outcome(succeeded=True)


@pytest.fixture(autouse=True)
def _longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every wait for another attempt be the longest that chance allows."""
    monkeypatch.setattr("ingest_service.app.RetryPolicy", partial(RetryPolicy, chance=lambda: 1.0))


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
            (clock_time(35.4), clock_time(41.4)),
            (clock_time(15.4), clock_time(26.4)),
            (clock_time(0.4), clock_time(1.4)),
            (clock_time(30.4), clock_time(31.4)),
            (clock_time(5.4), clock_time(11.4)),
        ]
        api.advance(60)
        found = [api.status(each) for each in ids]
        assert [(each["started_at"], each["finished_at"]) for each in found] == etas

    def test_it_moves_up_as_others_are_served(self, api: Api) -> None:
        api.ingest(range(1, 7))
        last = api.ingest([7])
        seen = []
        for seconds in (0, 0.4, 5, 5):
            api.advance(seconds)
            seen.append((place(api, last), eta(api, last)))

        end = clock_time(11.4)
        assert seen == [
            ((2, 2), (clock_time(10.4), end)),
            ((2, 1), (clock_time(10.4), end)),
            ((1, 0), (clock_time(10.4), end)),
            (None, (None, end)),
        ]

    def test_being_overtaken_shows_at_once(self, api: Api) -> None:
        ingestion_id = api.ingest(range(1, 7), "LOW")
        api.advance(1)
        before = place(api, ingestion_id), eta(api, ingestion_id)
        api.ingest(range(11, 18), "HIGH")
        after = place(api, ingestion_id), eta(api, ingestion_id)
        api.advance(60)

        assert before == ((1, 0), (clock_time(5.4), clock_time(6.4)))
        assert after == ((2, 3), (clock_time(20.4), clock_time(21.4)))
        assert api.status(ingestion_id)["finished_at"] == clock_time(21.4)

    def test_while_its_last_batch_is_under_way_only_the_end_is_ahead(self, api: Api) -> None:
        ingestion_id = api.ingest([1])
        api.advance(1)
        found = api.status(ingestion_id)

        assert found["queue"] is None
        assert found["eta"] == {
            "next_start_at": None,
            "finish_at": clock_time(1.4),
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
        assert eta(api, ingestion_id) == (clock_time(0.4), clock_time(21.4))
        api.advance(1)
        assert eta(api, ingestion_id) == (clock_time(7.4), clock_time(21.4))
        api.advance(30)
        assert api.status(ingestion_id)["finished_at"] == clock_time(21.4)

    def test_a_retry_to_come_is_counted_in(self, api: Api) -> None:
        api.upstream.reply = once(LATER)
        ingestion_id = api.ingest([1])
        api.advance(1.5)
        assert place(api, ingestion_id) == (1, 0)
        assert eta(api, ingestion_id) == (clock_time(5.4), clock_time(6.4))
        api.advance(10)
        assert api.status(ingestion_id)["finished_at"] == clock_time(6.4)


class TestWhy:
    """Each reason in its situation, with the instant at which it ends."""

    def test_settling(self, api: Api) -> None:
        assert why(api, api.ingest([1])) == ("settling", clock_time(0.4))

    def test_rate_limit(self, api: Api) -> None:
        """It is next, and would be sent now if there were no interval."""
        ingestion_id = api.ingest(range(1, 7))
        api.advance(2)
        assert why(api, ingestion_id) == ("rate_limit", clock_time(5.4))

    def test_rate_limit_lasts_longer_than_settling(self, api: Api) -> None:
        api.ingest([1])
        api.advance(2)
        assert why(api, api.ingest([2])) == ("rate_limit", clock_time(5.4))

    def test_in_line(self, api: Api) -> None:
        """Until its own turn, not only until the one before it."""
        api.ingest(range(1, 10))
        ingestion_id = api.ingest([10])
        api.advance(2)
        assert why(api, ingestion_id) == ("in_line", clock_time(15.4))

    def test_higher_priority(self, api: Api) -> None:
        """Whatever else is before it."""
        api.ingest([1], "MEDIUM")
        ingestion_id = api.ingest([2], "MEDIUM")
        api.ingest([3], "HIGH")
        api.advance(0.2)
        assert why(api, ingestion_id) == ("higher_priority", clock_time(10.4))

    def test_paused(self, api: Api) -> None:
        """Nobody knows until when; what is under way does not wait for that."""
        running, waiting = api.ingest([1]), api.ingest([2])
        api.advance(1)
        api.client.post("/queue/pause", json={"reason": "x"})
        assert why(api, waiting) == ("paused", None)
        assert api.status(waiting)["eta"] is None
        assert why(api, running) == ("max_concurrent", clock_time(1.4))
        assert eta(api, running) == (None, clock_time(1.4))

    def test_upstream_hold(self, api: Api) -> None:
        """Everybody who waits, whatever their class."""
        api.upstream.reply = once(
            Outcome(succeeded=False, transient=True, error="no", retry_after=20.0)
        )
        api.ingest([1])
        api.advance(3)
        ids = [api.ingest([item], priority) for item, priority in ((2, "HIGH"), (3, "LOW"))]
        assert [why(api, each) for each in ids] == [("upstream_hold", clock_time(21.4))] * 2
        assert eta(api, ids[0]) == (clock_time(21.4), clock_time(22.4))
        queue, health = (api.client.get(path).get_json() for path in ("/queue", "/health"))
        assert (queue["state"], queue["until"]) == ("held", clock_time(21.4))
        assert (health["queue"], health["until"]) == ("held", clock_time(21.4))
        assert queue["reason"] == health["reason"] == "the upstream asked for it"
        api.advance(60)
        assert api.status(ids[0])["started_at"] == clock_time(21.4)

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
        assert queue["until"] == found["until"] == clock_time(11.4)

    def test_retry_backoff(self, api: Api) -> None:
        """As long as all that is left of it waits for another attempt."""
        api.upstream.reply = lambda batch: [LATER]
        ingestion_id = api.ingest([1])
        api.advance(20)
        assert [at for at, _ in api.sent()] == [0.4, 5.4, 10.4, 15.4]
        assert why(api, ingestion_id) == ("retry_backoff", clock_time(24.4))
        assert eta(api, ingestion_id) == (clock_time(24.4), clock_time(25.4))

    def test_max_concurrent(self, api: Api) -> None:
        """The interval is over and the batch before it is not."""
        api.upstream.latency = 12
        running, waiting = api.ingest([1]), api.ingest([2])
        api.advance(2)
        assert why(api, running) == ("max_concurrent", clock_time(12.4))
        assert why(api, waiting) == ("max_concurrent", clock_time(12.4))
        api.advance(8)
        assert why(api, waiting) == ("max_concurrent", clock_time(12.4))
        api.advance(2.5)
        assert why(api, waiting) == ("max_concurrent", clock_time(24.4))
        assert api.status(waiting)["started_at"] == clock_time(12.4)


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


class TestEtag:
    """Asking again costs next to nothing while nothing has changed."""

    def ask(self, api: Api, ingestion_id: str, etag: str | None = None) -> TestResponse:
        """Ask for the status, telling what is known."""
        headers = {} if etag is None else {"If-None-Match": etag}
        return api.client.get(f"/status/{ingestion_id}", headers=headers)

    def test_it_stays_while_nothing_changes_and_changes_with_everything_that_can_be_seen(
        self, api: Api
    ) -> None:
        """Strong: the same tag means the same bytes."""
        ingestion_id = api.ingest([1, 2, 3, 4])
        tags: dict[str, bytes] = {}
        for _ in range(60):
            answer = self.ask(api, ingestion_id)
            etag = answer.headers["ETag"]
            assert etag.startswith('"')
            assert tags.setdefault(etag, answer.data) == answer.data
            api.advance(0.2)
        assert len(set(tags.values())) == len(tags)
        # Settling, sent, waiting for the pace, sent, done.
        assert len(tags) == 5

    def test_what_is_known_is_not_sent_again(self, api: Api) -> None:
        ingestion_id = api.ingest([1])
        first = self.ask(api, ingestion_id)
        again = self.ask(api, ingestion_id, first.headers["ETag"])

        assert (again.status_code, again.data) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
        assert again.headers["Retry-After"] == first.headers["Retry-After"]
        assert again.headers["Cache-Control"] == "no-cache"
        assert "Content-Type" not in again.headers

    def test_any_spelling_of_what_is_known_counts(self, api: Api) -> None:
        """Weakened by a proxy, among others, or anything at all."""
        ingestion_id = api.ingest([1])
        etag = self.ask(api, ingestion_id).headers["ETag"]
        for known in (f"W/{etag}", f'"x", {etag}', "*"):
            assert self.ask(api, ingestion_id, known).status_code == 304
        for other in ('"x"', etag.strip('"') + "x", "", '"'):
            assert self.ask(api, ingestion_id, other).status_code == 200

    def test_after_a_change_there_is_a_new_answer(self, api: Api) -> None:
        ingestion_id = api.ingest([1])
        etag = self.ask(api, ingestion_id).headers["ETag"]
        api.advance(0.4)
        answer = self.ask(api, ingestion_id, etag)
        assert answer.status_code == 200
        assert answer.get_json()["status"] == "triggered"

    def test_pages_have_tags_of_their_own(self, api: Api) -> None:
        ingestion_id = api.ingest(range(1, 10))
        tags = {
            api.client.get(f"/status/{ingestion_id}?offset={at}&limit=1").headers["ETag"]
            for at in range(3)
        }
        assert len(tags) == 3

    def test_head_has_the_same_one(self, api: Api) -> None:
        ingestion_id = api.ingest([1])
        get = self.ask(api, ingestion_id)
        head = api.client.head(f"/status/{ingestion_id}")
        assert (head.data, head.headers["ETag"]) == (b"", get.headers["ETag"])


class TestRetryAfter:
    """When to ask again."""

    def test_it_is_the_second_in_which_something_will_have_changed(self, api: Api) -> None:
        """Rounded up; a finished one has none."""
        ingestion_id = api.ingest([1, 2, 3, 4])
        seen = []
        for seconds in (0, 0.4, 1, 4, 1):
            api.advance(seconds)
            seen.append(api.client.get(f"/status/{ingestion_id}").headers.get("Retry-After"))
        assert seen == ["1", "1", "4", "1", None]

    @pytest.mark.parametrize("latency", [0.0, 1.0, 7.0])
    def test_who_obeys_it_asks_once_a_change(self, api: Api, latency: float) -> None:
        """About: no request more than there are changes, and two for those in one second."""
        api.upstream.latency = latency
        ingestion_id = api.ingest(range(1, 16))
        answers: list[bytes] = []
        while not answers or b'"finished_at":null' in answers[-1]:
            answer = api.client.get(f"/status/{ingestion_id}")
            answers.append(answer.data)
            api.advance(int(answer.headers.get("Retry-After", 0)))
        # Five batches, each of which starts and ends.
        assert len(answers) <= 11
        assert len(set(answers)) == len(answers)

    def test_behind_others_it_is_the_time_of_ones_own_start(self, api: Api) -> None:
        api.ingest(range(1, 31))
        ingestion_id = api.ingest([99])
        answer = api.client.get(f"/status/{ingestion_id}")
        assert answer.headers["Retry-After"] == "51"

    def test_when_nobody_knows_it_is_half_a_minute(self, api: Api) -> None:
        ingestion_id = api.ingest([1])
        api.client.post("/queue/pause")
        assert api.client.get(f"/status/{ingestion_id}").headers["Retry-After"] == "30"


class TestWait:
    """`?wait=`, in frozen time: waiting lets time pass, or somebody act."""

    @pytest.fixture
    def waits(self, still: Api, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """Record for how long is waited; let the worker run meanwhile, deadline by deadline."""
        waited: list[float] = []

        def wait_for(
            _: FrozenClock,
            condition: threading.Condition,
            ready: Callable[[], object],
            timeout: float | None,
        ) -> None:
            assert timeout is not None
            waited.append(timeout)
            # Nothing is locked while it waits: everything below takes the lock.
            condition.release()
            for _turn in range(int(timeout * 10)):
                if ready():
                    break
                still.advance(0.1)
            condition.acquire()

        monkeypatch.setattr(FrozenClock, "wait_for", wait_for)
        return waited

    @pytest.fixture
    def still(self) -> Iterator[Api]:
        """Give a service whose worker rests until time is advanced."""
        with serving(Settings(), threaded=False) as served:
            yield served

    def ask(self, api: Api, ingestion_id: str, wait: str, **headers: str) -> dict[str, Any]:
        """Ask for the status; wait for a change."""
        answer = api.client.get(f"/status/{ingestion_id}?wait={wait}", headers=headers)
        assert answer.status_code == 200
        return cast(dict[str, Any], answer.get_json())

    def test_it_answers_at_the_first_change(self, still: Api, waits: list[float]) -> None:
        """One request a change, whatever it is."""
        ingestion_id, seen = still.ingest([1, 2, 3, 4]), []
        for _ in range(4):
            found = self.ask(still, ingestion_id, "30")
            counts = found["counts"]
            seen.append((counts["queued"], counts["in_flight"], counts["succeeded"]))
        assert seen == [(1, 3, 0), (1, 0, 3), (0, 1, 3), (0, 0, 4)]
        assert waits == [30] * 4

    def test_without_a_change_it_answers_at_the_end(self, still: Api, waits: list[float]) -> None:
        still.client.post("/queue/pause")
        ingestion_id = still.ingest([1])
        assert self.ask(still, ingestion_id, "3")["status"] == "yet_to_start"
        assert self.ask(still, ingestion_id, "60")["status"] == "yet_to_start"
        assert waits == [3, 60]

    def test_without_a_change_a_known_answer_is_not_sent_again(
        self, still: Api, waits: list[float]
    ) -> None:
        still.client.post("/queue/pause")
        ingestion_id = still.ingest([1])
        etag = still.client.get(f"/status/{ingestion_id}").headers["ETag"]
        for known in (etag, f"W/{etag}"):
            answer = still.client.get(
                f"/status/{ingestion_id}?wait=3", headers={"If-None-Match": known}
            )
            assert (answer.status_code, answer.data) == (304, b"")
        assert waits == [3, 3]

    def test_what_the_client_does_not_know_yet_is_no_reason_to_wait(
        self, still: Api, waits: list[float]
    ) -> None:
        ingestion_id = still.ingest([1])
        etag = still.client.get(f"/status/{ingestion_id}").headers["ETag"]
        still.advance(0.5)
        found = self.ask(still, ingestion_id, "30", **{"If-None-Match": etag})
        assert (found["status"], waits) == ("triggered", [])

    def test_what_is_finished_does_not_change_any_more(
        self, still: Api, waits: list[float]
    ) -> None:
        ingestion_id = still.ingest([1])
        still.advance(5)
        assert self.ask(still, ingestion_id, "60")["status"] == "completed"
        still.client.get(f"/status/{ingestion_id}?wait=60")
        assert waits == []

    def test_zero_is_no_time(self, still: Api, waits: list[float]) -> None:
        assert self.ask(still, still.ingest([1]), "0")["status"] == "yet_to_start"
        assert waits == []

    def test_the_other_way_to_ask_waits_too(self, still: Api, waits: list[float]) -> None:
        query = {"ingestion_id": still.ingest([1]), "wait": "9"}
        found = still.client.get("/status", query_string=query).get_json()
        assert (found["status"], waits) == ("triggered", [9])

    @pytest.mark.parametrize("wait", ["-1", "61", "abc", "1e9", "", "1.5", "%00", "9" * 400])
    def test_what_is_no_time_to_wait_is_refused(self, still: Api, wait: str) -> None:
        answer = still.client.get(f"/status/{still.ingest([1])}?wait={wait}")
        assert answer.status_code == 400
        assert [each["pointer"] for each in answer.get_json()["errors"]] == ["/wait"]


class Gate:
    """An upstream whose batches end when the test says so."""

    latency: float | None = None

    def start(self, batch: Batch, on_end: Callable[[], None]) -> Call:
        return FinishedCall([FINE] * len(batch.items))


class WatchfulClock(SystemClock):
    """Real time; tells how many requests wait for a change."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Semaphore(0)

    def wait_for(
        self, condition: threading.Condition, ready: Callable[[], object], timeout: float | None
    ) -> None:
        if threading.current_thread().name != "ingest-worker":
            self.waiting.release()
        super().wait_for(condition, ready, timeout)


class TestWaitingTogether:
    """`?wait=` in real time, with threads: nobody is in anybody's way."""

    @pytest.fixture
    def clock(self) -> WatchfulClock:
        return WatchfulClock()

    @pytest.fixture
    def parts(self, clock: WatchfulClock) -> Iterator[Parts]:
        """Give a running service that is paused."""
        parts = build(Settings(interval=0, settle=0), clock=clock, upstream=Gate())
        parts.worker.start()
        parts.service.control.pause("")
        yield parts
        assert parts.worker.stop(GUARD)

    @pytest.fixture
    def client(self, parts: Parts) -> FlaskClient:
        return create_app(Settings(), parts).test_client()

    def post(self, client: FlaskClient) -> str:
        """Post an id."""
        return str(client.post("/ingest", json={"ids": [1], "priority": "LOW"}).headers["Location"])

    def test_all_who_wait_hear_of_the_first_change_and_nobody_is_blocked(
        self, client: FlaskClient, clock: WatchfulClock
    ) -> None:
        """A status, a submission and a change are answered while ten wait."""
        where, app = self.post(client), client.application
        with ThreadPoolExecutor(10) as pool:
            asked = [
                pool.submit(lambda: app.test_client().get(f"{where}?wait=60").get_json())
                for _ in range(10)
            ]
            for _ in asked:
                assert clock.waiting.acquire(timeout=GUARD)
            assert client.get(where).get_json()["status"] == "yet_to_start"
            other = self.post(client)
            assert client.get(other).get_json()["status"] == "yet_to_start"
            assert not any(each.done() for each in asked)
            client.post(f"/ingestions/{where.rpartition('/')[2]}/cancel")
            answers = [each.result(timeout=GUARD)["status"] for each in asked]
        assert answers == ["cancelled"] * 10

    def test_when_too_many_wait_the_next_is_answered_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each occupies a thread of the server."""
        monkeypatch.setattr(service_module, "MAX_WAITERS", 2)
        clock = WatchfulClock()
        parts = build(Settings(), clock=clock, upstream=Gate())
        client = create_app(Settings(), parts).test_client()
        where, app = self.post(client), client.application
        with ThreadPoolExecutor(2) as pool:
            asked = [
                pool.submit(lambda: app.test_client().get(f"{where}?wait=60").get_json())
                for _ in range(2)
            ]
            for _ in asked:
                assert clock.waiting.acquire(timeout=GUARD)
            assert client.get(f"{where}?wait=60").get_json()["status"] == "yet_to_start"
            assert not any(each.done() for each in asked)
            client.post(f"/ingestions/{where.rpartition('/')[2]}/cancel")
            for each in asked:
                each.result(timeout=GUARD)
            # Now there is room again.
            second = self.post(client)
            last = pool.submit(lambda: app.test_client().get(f"{second}?wait=60").get_json())
            assert clock.waiting.acquire(timeout=GUARD)
            client.post(f"/ingestions/{second.rpartition('/')[2]}/cancel")
            assert last.result(timeout=GUARD)["status"] == "cancelled"
