"""Following cheaply: asking again, when to ask, and waiting for a change."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ingest_service.app import Parts, build, create_app
from ingest_service.clock import SystemClock
from ingest_service.domain.model import Batch
from ingest_service.service import service as service_module
from ingest_service.settings import Settings
from ingest_service.upstreams.protocol import Call, FinishedCall
from tests.support import GUARD, Api, FrozenClock, serving
from tests.web.support import FINE


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
        api.advance(0.45)
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
        for seconds in (0, 0.45, 1, 4, 1):
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
            answers = [each.result(timeout=GUARD)["outcome"] for each in asked]
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
            assert last.result(timeout=GUARD)["outcome"] == "cancelled"
