"""What is posted and how it is answered: both families, repeated requests, limits."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from ingest_service.domain.ingestion import Submission
from ingest_service.engines import IdempotencyKey
from ingest_service.settings import Settings
from tests.meanwhile import Meanwhile
from tests.support import Api, serving
from tests.web.support import IDS, UUID4

MAPPINGS = {
    "mappings": [
        {"id": "map_001", "source": "s", "target": "t", "transformation": {"upper": ["name"]}},
        {"id": "map_002", "source": "s", "target": "t"},
    ],
    "priority": "LOW",
}


def test_posted_ids_are_answered_with_an_id_and_nothing_else(client: FlaskClient) -> None:
    answer = client.post("/ingest", json=IDS)

    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    body = answer.get_json()
    assert list(body) == ["ingestion_id"]
    assert UUID4.fullmatch(body["ingestion_id"])
    assert answer.headers["Location"] == f"/status/{body['ingestion_id']}"


def test_posted_mappings_are_answered_in_the_words_of_their_clients(client: FlaskClient) -> None:
    answer = client.post("/ingest", json=MAPPINGS)

    body = answer.get_json()
    assert UUID4.fullmatch(body["request_id"])
    assert body == {
        "request_id": body["request_id"],
        "status": "pending",
        "message": "Ingestion request created successfully. 2 mappings queued for processing.",
    }
    assert answer.headers["Location"] == f"/status/{body['request_id']}"


@pytest.mark.parametrize("priority", ["HIGH", "MEDIUM", "LOW"])
def test_every_priority_is_taken(client: FlaskClient, priority: str) -> None:
    assert client.post("/ingest", json={"ids": [1], "priority": priority}).status_code == 200


@pytest.mark.parametrize("ids", [[1], [1_000_000_007], [2.0], [7, 7, 7], [1, 2.0, 1e3]])
def test_ids_within_the_limits_are_taken_as_they_are(client: FlaskClient, ids: list[Any]) -> None:
    """A float without fraction is an integer in JSON; repetitions are kept."""
    where = client.post("/ingest", json={"ids": ids, "priority": "LOW"}).headers["Location"]

    (batch,) = client.get(where).get_json()["batches"]
    assert batch["ids"] == ids
    assert set(map(type, batch["ids"])) == {int}


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json;charset=UTF-8", "APPLICATION/JSON", None],
)
def test_json_is_recognised_by_any_spelling_and_assumed_without_one(
    client: FlaskClient, content_type: str | None
) -> None:
    body = b'{"ids":[1],"priority":"LOW"}'
    assert client.post("/ingest", data=body, content_type=content_type).status_code == 200


def test_the_same_key_and_body_get_the_first_answer_again(client: FlaskClient) -> None:
    first = client.post("/ingest", json=MAPPINGS, headers={"Idempotency-Key": "k"})
    again = client.post("/ingest", json=MAPPINGS, headers={"Idempotency-Key": "k"})

    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.status_code, again.data) == (200, first.data)
    assert again.headers["Location"] == first.headers["Location"]
    assert client.get("/health").get_json()["active_requests"] == 1


@pytest.mark.parametrize(
    "other", [IDS | {"priority": "LOW"}, IDS | {"ids": [1, 2, 3]}, MAPPINGS], ids=str
)
def test_the_same_key_with_another_body_is_refused(
    client: FlaskClient, other: dict[str, Any]
) -> None:
    client.post("/ingest", json=IDS, headers={"Idempotency-Key": "k"})
    answer = client.post("/ingest", json=other, headers={"Idempotency-Key": "k"})

    assert answer.status_code == 422
    assert answer.get_json()["type"] == "/problems/idempotency-mismatch"
    assert client.get("/health").get_json()["active_requests"] == 1


def test_how_a_body_is_written_does_not_make_it_another(client: FlaskClient) -> None:
    """Blanks and the order of keys carry no meaning, so a repeated request may differ in them."""
    client.post("/ingest", data=b'{"ids":[2],"priority":"LOW"}', headers={"Idempotency-Key": "k"})
    again = client.post(
        "/ingest", data=b'{ "priority": "LOW", "ids": [2.0] }', headers={"Idempotency-Key": "k"}
    )
    assert again.headers["Idempotency-Replayed"] == "true"


def test_requests_without_a_key_are_never_taken_for_each_other(client: FlaskClient) -> None:
    first, second = (client.post("/ingest", json=IDS).get_json() for _ in range(2))
    assert first != second


@pytest.mark.parametrize(("age", "replayed"), [(-1, True), (0, False)])
def test_a_key_is_forgotten_after_24_hours(still: Api, age: int, replayed: bool) -> None:
    first = still.client.post("/ingest", json=IDS, headers={"Idempotency-Key": "k"})
    still.advance(24 * 3600 + age)
    later = still.client.post("/ingest", json=IDS, headers={"Idempotency-Key": "k"})

    assert ("Idempotency-Replayed" in later.headers) == replayed
    assert (later.get_json() == first.get_json()) == replayed


def test_fifty_requests_with_one_key_at_once_store_one_ingestion(client: FlaskClient) -> None:
    app, start, answers = client.application, threading.Barrier(50), []

    def post() -> None:
        one = app.test_client()
        start.wait()
        answers.append(one.post("/ingest", json=IDS, headers={"Idempotency-Key": "k"}).data)

    threads = [threading.Thread(target=post) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(answers) == 50
    assert len(set(answers)) == 1
    health = client.get("/health").get_json()
    assert (health["active_requests"], health["queued_items"]) == (1, 4)


@pytest.mark.parametrize("full", [False, True], ids=["room", "full"])
@pytest.mark.parametrize("journal", ["memory", "journal.sqlite3"])
def test_what_is_answered_again_can_be_found(tmp_path: Path, journal: str, full: bool) -> None:
    """Also while the first request is durable and is only just being made visible."""
    where = journal if journal == "memory" else str(tmp_path / journal)
    settings = Settings(journal=where, max_queued_items=4 if full else 100)
    with serving(settings, threaded=False) as api:
        app, accept, begun = api.client.application, api.parts.journal.accept, threading.Event()
        found: list[tuple[bool, int]] = []

        def post() -> None:
            client = app.test_client()
            answer = client.post("/ingest", json=IDS, headers={"Idempotency-Key": "k"})
            status = client.get(f"/status/{answer.get_json()['ingestion_id']}").status_code
            found.append(("Idempotency-Replayed" in answer.headers, status))

        again = Meanwhile(post)

        def accepting(
            submission: Submission, key: IdempotencyKey | None, then: Callable[[], None]
        ) -> "Future[str]":
            def show() -> None:
                begun.set()
                again.begin()
                then()

            # Only the first is made visible.
            return accept(submission, key, then if begun.is_set() else show)

        api.parts.journal.accept = accepting  # type: ignore[method-assign]
        post()
        again.end()
        api.parts.journal.close()
    assert sorted(found) == [(False, 200), (True, 200)]


def test_a_refused_request_does_not_use_up_its_key(client: FlaskClient) -> None:
    bad = client.post("/ingest", json={"ids": []}, headers={"Idempotency-Key": "k"})
    good = client.post("/ingest", json=IDS, headers={"Idempotency-Key": "k"})
    assert (bad.status_code, good.status_code) == (400, 200)


class TestAFullQueue:
    """A queue that takes ten items."""

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(max_queued_items=10)

    def test_retry_after_is_the_second_in_which_there_is_room(self, api: Api) -> None:
        """Nine wait; a second request of four needs three to leave: one batch, so 0.4 s."""
        api.ingest([*range(1, 10)])
        refused = api.client.post("/ingest", json=IDS)

        assert refused.status_code == 503
        assert refused.get_json()["type"] == "/problems/queue-full"
        assert refused.headers["Retry-After"] == "1"
        assert api.client.get("/health").get_json()["active_requests"] == 1

    @pytest.mark.parametrize(("items", "seconds"), [(4, 1), (5, 6), (7, 6), (8, 11), (10, 11)])
    def test_retry_after_is_exact(self, api: Api, items: int, seconds: int) -> None:
        """A second earlier there is no room yet, at the instant there is."""
        api.ingest([*range(1, 10)])
        body = {"ids": [*range(1, items + 1)], "priority": "LOW"}
        refused = api.client.post("/ingest", json=body)
        assert refused.headers["Retry-After"] == str(seconds)

        api.advance(seconds - 1)
        assert api.client.post("/ingest", json=body).status_code == 503
        api.advance(1)
        assert api.client.post("/ingest", json=body).status_code == 200

    def test_while_it_is_paused_nobody_knows_when_there_is_room(self, api: Api) -> None:
        """So the client is told to look again in a minute, and why."""
        api.ingest([*range(1, 10)])
        api.client.post("/queue/pause")
        refused = api.client.post("/ingest", json=IDS)

        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "60")
        assert "paused" in refused.get_json()["detail"]

    def test_what_was_accepted_before_is_answered_again(self, api: Api) -> None:
        """A retry with its key needs no room; the same key for something else is still refused."""
        headers = {"Idempotency-Key": "k"}
        body = {"ids": [*range(1, 10)], "priority": "LOW"}
        first = api.client.post("/ingest", json=body, headers=headers)
        again = api.client.post("/ingest", json=body, headers=headers)
        other = api.client.post("/ingest", json=IDS, headers=headers)

        assert (again.status_code, again.get_json()) == (200, first.get_json())
        assert again.headers["Idempotency-Replayed"] == "true"
        assert other.status_code == 422

    def test_a_request_that_can_never_fit_is_not_sent_to_wait(self, client: FlaskClient) -> None:
        answer = client.post("/ingest", json={"ids": [1] * 11, "priority": "LOW"})
        assert answer.status_code == 400
        assert answer.get_json()["errors"][0]["pointer"] == "/ids"


class TestASmallItemLimit:
    """A service that takes three items a request."""

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(max_items=3)

    def test_the_limit_itself_is_taken(self, client: FlaskClient) -> None:
        body = {"ids": [1, 2, 3], "priority": "LOW"}
        assert client.post("/ingest", json=body).status_code == 200

    def test_one_item_more_is_refused_with_both_numbers(self, client: FlaskClient) -> None:
        answer = client.post("/ingest", json=IDS)
        assert answer.status_code == 400
        assert answer.get_json()["detail"] == "/ids: This must have from 1 to 3 elements and has 4."

    def test_the_document_tells_the_limit(self, client: FlaskClient) -> None:
        schemas = client.get("/openapi.json").get_json()["components"]["schemas"]
        assert schemas["IdsRequest"]["properties"]["ids"]["maxItems"] == 3
        assert schemas["MappingsRequest"]["properties"]["mappings"]["maxItems"] == 3
