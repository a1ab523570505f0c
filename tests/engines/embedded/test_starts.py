"""Between the choice of a batch and its start: what is seen, and what is left if that fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest_service.domain.model import Priority
from ingest_service.domain.policy import CYCLE
from ingest_service.domain.snapshot import QueueSnapshot
from ingest_service.engines.embedded.journal import Change, Started
from ingest_service.errors import StorageUnavailable
from ingest_service.settings import Settings
from tests.meanwhile import Meanwhile, once_recorded, refuse_records
from tests.restarts import Restarts, restarting
from tests.service.operating import cancel, move
from tests.support import Api
from tests.web.support import clock_time

pytestmark = pytest.mark.embedded


class TestWhileItIsRecorded:
    """The last batch of an ingestion is taken, and not under way yet."""

    def test_it_is_next_until_it_is_under_way(self, still: Api) -> None:
        """Its status has a place, a reason and a time for it, and the queue counts it."""
        ingestion_id, other = still.ingest([1]), still.ingest([2])
        seen: list[dict[str, Any]] = []

        def look() -> None:
            seen.append(still.status(ingestion_id))
            seen.append(still.status(other))
            seen.append(still.client.get("/queue").get_json())

        once_recorded(still.parts.journal, Started, look)
        still.advance(1)
        first, second, queue = seen

        assert (first["status"], first["counts"]["queued"]) == ("yet_to_start", 1)
        assert first["queue"] == {"position": 1, "batches_ahead": 0}
        assert first["eta"]["finish_at"] == clock_time(1.45)
        assert first["why_waiting"]["until"] == clock_time(0.45)
        assert first["why_waiting"]["code"] == "rate_limit"
        assert second["queue"] == {"position": 2, "batches_ahead": 1}
        assert queue["depth"]["MEDIUM"]["batches"] == len(queue["next"]) == 2

    def test_a_status_is_of_one_moment_whatever_starts_meanwhile(self, still: Api) -> None:
        """The worker takes the last batch while an answer is being made."""
        ingestion_id = still.ingest([1])
        reading = still.parts.engine.reading
        snapshot, left = reading.snapshot, [1]

        def slow(of: Any = None) -> QueueSnapshot:
            taken = snapshot(of)
            if left:
                left.pop()
                still.advance(1)
            return taken

        reading.snapshot = slow  # type: ignore[method-assign]
        found = still.status(ingestion_id)
        assert found["queue"] == {"position": 1, "batches_ahead": 0}
        assert found["eta"]["finish_at"] == clock_time(1.45)


class TestARecordThatFails:
    """The batch that was taken goes back to where it was."""

    @pytest.fixture
    def put_back(self, still: Api) -> list[str]:
        """Give three ingestions, the first of which was taken and could not be started."""
        ids = [still.ingest([1, 2, 3, 4]), still.ingest([5, 6]), still.ingest([7], "LOW")]
        heal = refuse_records(still.parts.journal, Started, StorageUnavailable("Full."))
        still.advance(1)
        heal()
        return ids

    def places(self, api: Api, ids: list[str]) -> list[tuple[int, int]]:
        """Return positions and batches ahead."""
        found = [api.status(each)["queue"] for each in ids]
        return [(each["position"], each["batches_ahead"]) for each in found]

    def test_a_move_after_it_counts_nothing_twice(self, still: Api, put_back: list[str]) -> None:
        """There and back again; then everything is sent once."""
        before = self.places(still, put_back)
        move(still, put_back[0], "LOW")
        moved = self.places(still, put_back)
        move(still, put_back[0], "HIGH")
        depth = still.client.get("/queue").get_json()["depth"]
        move(still, put_back[0], "MEDIUM")
        after = self.places(still, put_back)
        still.advance(60)

        assert before == after == [(1, 0), (2, 2), (3, 3)]
        assert moved == [(2, 1), (1, 0), (3, 3)]
        assert [each["batches"] for each in depth.values()] == [2, 1, 1]
        assert [items for _, items in still.sent()] == [[1, 2, 3], [4], [5, 6], [7]]

    @pytest.mark.parametrize("priority", ["HIGH", "LOW"])
    def test_a_move_while_it_fails_counts_nothing_twice(self, still: Api, priority: str) -> None:
        """It takes place before or after, and not in between."""
        ids = [still.ingest([1, 2, 3, 4]), still.ingest([5, 6])]
        moving = Meanwhile(lambda: move(still, ids[0], priority))
        record, left = still.parts.journal.record, [moving]

        def fail(*changes: Change) -> None:
            if left and isinstance(changes[0], Started):
                left.pop().begin()
                raise StorageUnavailable("Full.")
            record(*changes)

        still.parts.journal.record = fail  # type: ignore[method-assign]
        still.advance(0.46)
        moving.end()
        places = self.places(still, ids)
        depth = still.client.get("/queue").get_json()["depth"]
        still.advance(60)

        assert places == ([(1, 0), (2, 2)] if priority == "HIGH" else [(2, 1), (1, 0)])
        assert (depth[priority]["batches"], depth["MEDIUM"]["batches"]) == (2, 1)
        sent = [items for _, items in still.sent()]
        first, other = [[1, 2, 3], [4]], [[5, 6]]
        assert sent == (first + other if priority == "HIGH" else other + first)

    def test_a_cancellation_after_it_gives_it_up(self, still: Api, put_back: list[str]) -> None:
        assert cancel(still, put_back[0])["cancelled_items"] == 4
        assert self.places(still, put_back[1:]) == [(1, 0), (2, 1)]
        still.advance(60)
        assert [items for _, items in still.sent()] == [[5, 6], [7]]


class TestSlots:
    """Slots are counted over restarts, because the weighted policy shares them out by number."""

    @pytest.fixture
    def lives(self, tmp_path: Path) -> Iterator[Restarts]:
        """Give a service of the weighted policy on a slow disk."""
        with restarting(tmp_path / "journal", Settings(policy="weighted")) as restarts:
            self.slow_down(restarts)
            yield restarts

    def slow_down(self, lives: Restarts, seconds: float = 0.05) -> None:
        """Let every record of a start take so long that it is repeated."""
        record = lives.api.parts.journal.record

        def slow(*changes: Change) -> None:
            record(*changes)
            if any(isinstance(change, Started) for change in changes):
                lives.pass_by(seconds)

        lives.api.parts.journal.record = slow  # type: ignore[method-assign]

    def test_a_slot_whose_record_is_repeated_is_one_slot(self, lives: Restarts) -> None:
        """So the shares stay in step, whenever the process ends."""
        for priority in Priority:
            lives.api.ingest(range(1, 61), priority.name)
        for _ in range(5):
            lives.api.advance(23)
            lives.crash()
            self.slow_down(lives)
        classes = {1: "HIGH", 2: "MEDIUM", 3: "LOW"}
        names = {each["ingestion_id"]: each["priority"] for each in listed(lives.api)}
        served = [names[batch.ingestion_id] for _, batch in lives.api.upstream.starts]

        assert len(served) > 2 * len(CYCLE) - 4
        assert served == [classes[CYCLE[at % len(CYCLE)]] for at in range(len(served))]

    def test_after_a_restart_the_pace_counts_from_the_start_and_not_from_its_record(
        self, tmp_path: Path
    ) -> None:
        """Also if the upstream does not tell when it was asked."""
        with restarting(tmp_path / "slower", Settings(interval=5)) as lives:
            self.slow_down(lives, 2)
            lives.api.ingest(range(1, 7))
            lives.api.advance(8)
            lives.crash()
            lives.api.advance(20)
            (first, _), (second, _) = lives.api.sent()
        assert second - first == pytest.approx(5)


def listed(api: Api) -> list[dict[str, Any]]:
    """Return all ingestions."""
    found: list[dict[str, Any]] = api.client.get("/ingestions").get_json()["ingestions"]
    return found
