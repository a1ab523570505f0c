"""Deleting what is finished: at once and for good, but for what others have to be shown."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from ingest_service.engines.embedded.journal import Finished
from ingest_service.engines.embedded.state import KEEP_IN_MEMORY
from ingest_service.errors import IngestionNotFound
from ingest_service.settings import Settings
from tests.meanwhile import Meanwhile, once_recorded
from tests.restarts import Restarts
from tests.service.operating import NO, UNKNOWN, conflict, replies, retry, told
from tests.service.owners import ANNA, submit
from tests.support import Api, serving
from tests.web.support import get

HOUR = 3_600.0


@pytest.fixture(params=["memory", "sqlite"])
def still(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    """Give a service on every journal, whose worker rests until time is advanced."""
    where = "memory" if request.param == "memory" else str(tmp_path / "journal.sqlite3")
    with serving(Settings(journal=where, retention=HOUR), threaded=False) as api:
        yield api
        api.parts.close(0)


def delete(api: Api, ingestion_id: str) -> dict[str, Any]:
    """Delete an ingestion; return the effect."""
    return told(api.client.delete(f"/ingestions/{ingestion_id}"))


def is_unknown(api: Api, ingestion_id: str) -> bool:
    """Tell whether nothing that names an ingestion knows it."""
    client, where = api.client, f"/ingestions/{ingestion_id}"
    answers = [
        client.get(f"/status/{ingestion_id}"),
        client.get(f"/status/{ingestion_id}?wait=1"),
        client.get(f"/status/{ingestion_id}/results"),
        client.get(f"/status/{ingestion_id}/results?format=csv"),
        client.post(f"{where}/cancel"),
        client.post(f"{where}/retry"),
        client.patch(where, json={"priority": "HIGH"}),
        client.delete(where),
    ]
    listed = get(client, "/ingestions")["ingestions"]
    codes = {answer.status_code for answer in answers}
    assert codes in ({404}, {200}, {200, 409})
    assert (codes == {404}) == (ingestion_id not in [each["ingestion_id"] for each in listed])
    return codes == {404}


@pytest.mark.parametrize("seconds", [0.0, KEEP_IN_MEMORY.total_seconds() + 10], ids=repr)
def test_what_is_deleted_is_unknown_from_then_on(still: Api, seconds: float) -> None:
    """Whether it is in memory still or in the journal only."""
    one, other = still.ingest([1, 2, 3, 4]), still.ingest([5])
    still.advance(20 + seconds)
    assert delete(still, one) == {
        "ingestion_id": one,
        "status": "completed",
        "deleted_items": 4,
    }
    assert is_unknown(still, one)
    assert still.status(other)["outcome"] == "succeeded"
    assert len(still.results(other)["results"]) == 1


def test_mappings_are_called_as_their_clients_call_them(still: Api) -> None:
    one = still.ingest_mappings(2)
    still.advance(10)
    assert delete(still, one) == {"request_id": one, "status": "completed", "deleted_items": 2}


@pytest.mark.parametrize("seconds", [0.0, 0.5, 3.0], ids=["waiting", "under way", "between"])
def test_what_is_not_finished_is_not_deleted(still: Api, seconds: float) -> None:
    """Its items go on; once it is cancelled and has ended, it can be."""
    one = still.ingest([1, 2, 3, 4])
    still.advance(seconds)
    answer = still.client.delete(f"/ingestions/{one}")
    assert conflict(answer) == "It is not finished; cancel it first."
    still.client.post(f"/ingestions/{one}/cancel")
    still.advance(2)
    delete(still, one)
    assert is_unknown(still, one)


def test_what_nobody_knows_is_not_found(still: Api) -> None:
    assert still.client.delete(f"/ingestions/{UNKNOWN}").status_code == 404


def test_its_starts_stay_for_the_rate_proof(still: Api) -> None:
    """For as long as they would have stayed with it."""
    one = still.ingest(range(1, 10))
    still.advance(20)
    before = get(still.client, "/rate-proof")
    delete(still, one)
    after = get(still.client, "/rate-proof")
    still.advance(HOUR - 30)
    late = get(still.client, "/rate-proof")

    assert before["starts"] == 3
    assert after == late == before


def test_its_idempotency_key_is_free_again(still: Api) -> None:
    """The same request with the same key is a new one."""
    first = submit(still, ANNA, key="k")
    still.advance(10)
    assert submit(still, ANNA, key="k") == first
    still.client.delete(f"/ingestions/{first}")
    second = submit(still, ANNA, key="k")

    assert second != first
    assert is_unknown(still, first)
    assert submit(still, ANNA, key="k") == second


def test_it_stays_deleted_over_a_restart(lives: Restarts) -> None:
    one = lives.api.ingest([1, 2, 3, 4])
    lives.api.advance(20)
    delete(lives.api, one)
    lives.crash()
    assert is_unknown(lives.api, one)
    assert get(lives.api.client, "/rate-proof")["starts"] == 2
    assert lives.api.client.get("/health").get_json()["active_requests"] == 0


def test_what_is_deleted_while_it_is_streamed_breaks_off(
    still: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer has begun; what has not been read is gone, and that is no end."""
    monkeypatch.setattr("ingest_service.service.queries.STREAM_PAGE", 2)
    one = still.ingest(range(1, 7))
    still.advance(20)
    parts = still.client.get(f"/status/{one}/results?format=ndjson").iter_encoded()
    first = next(iter(parts))
    delete(still, one)
    assert first.count(b"\n") == 2
    with pytest.raises(IngestionNotFound):
        list(parts)


def test_what_is_just_ending_is_deleted_after_it_or_not_at_all(lives: Restarts) -> None:
    """The end that is being recorded comes first, and is gone with the rest."""
    client, one = lives.api.client, lives.api.ingest([1])
    answers: list[TestResponse] = []
    late = Meanwhile(lambda: answers.append(client.delete(f"/ingestions/{one}")))
    once_recorded(lives.api.parts.journal, Finished, late.begin)
    lives.api.advance(2)
    late.end()

    assert answers[0].status_code == 200
    assert is_unknown(lives.api, one)
    lives.crash()
    assert is_unknown(lives.api, one)


def test_what_is_tried_again_is_not_deleted(still: Api) -> None:
    still.upstream.reply = replies(NO)
    one = still.ingest([1])
    still.advance(2)
    retry(still, one)
    assert conflict(still.client.delete(f"/ingestions/{one}"))
    still.advance(20)
    delete(still, one)


def test_nothing_of_it_is_left_in_the_file(lives: Restarts, tmp_path: Path) -> None:
    """Neither in its tables nor in what they do not use any more."""
    mapping = {"id": "secret-id", "source": "secret-source", "target": "t"}
    body = {"mappings": [mapping], "priority": "LOW"}
    answer = lives.api.client.post("/ingest", json=body, headers={"Idempotency-Key": "secret-key"})
    one = answer.get_json()["request_id"]
    lives.api.advance(5)
    lives.close()
    path = tmp_path / "journal.sqlite3"
    before = path.read_bytes()
    lives.crash()
    delete(lives.api, one)
    lives.close()
    after = path.read_bytes()

    assert b"secret" in before
    assert b"secret" not in after
    assert one.encode() in after
