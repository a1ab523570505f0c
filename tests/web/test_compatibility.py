"""What older clients send and expect: taken as it is, so that nobody has to change a script."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ingest_service.domain.model import Batch, Outcome
from ingest_service.settings import Settings
from tests.support import Api, serving

MAPPING = {"id": "a", "source": "s", "target": "t"}
NO = Outcome(succeeded=False, error="no")
YES = Outcome(succeeded=True)


@pytest.fixture
def still() -> Iterator[Api]:
    """Give a service whose worker rests until time is advanced."""
    with serving(Settings(), threaded=False) as served:
        yield served


@pytest.fixture
def client(still: Api) -> FlaskClient:
    """Give a client of `still`."""
    return still.client


def first_fails(batch: Batch) -> list[Outcome]:
    """Let the first item of a batch fail."""
    return [NO, *[YES] * (len(batch.items) - 1)]


def all_fail(batch: Batch) -> list[Outcome]:
    """Let every item of a batch fail."""
    return [NO] * len(batch.items)


class TestBodies:
    """What typed clients and tools on Windows write."""

    @pytest.mark.parametrize(
        "body",
        [
            {"ids": [1], "mappings": None},
            {"ids": None, "mappings": [MAPPING]},
            {"mappings": [MAPPING | {"transformation": None}]},
        ],
        ids=str,
    )
    def test_null_counts_as_absent(self, client: FlaskClient, body: dict[str, Any]) -> None:
        assert client.post("/ingest", json=body | {"priority": "LOW"}).status_code == 200

    def test_a_transformation_that_is_null_is_not_sent(self, still: Api) -> None:
        body = {"mappings": [MAPPING | {"transformation": None}], "priority": "LOW"}
        still.client.post("/ingest", json=body)
        still.advance(1)
        assert still.sent() == [(0.45, [MAPPING])]

    def test_null_makes_it_no_other_request(self, client: FlaskClient) -> None:
        """One idempotency key for both spellings."""
        key = {"Idempotency-Key": "k"}
        plain = {"mappings": [MAPPING], "priority": "LOW"}
        spelt = {"mappings": [MAPPING | {"transformation": None}], "ids": None, "priority": "LOW"}
        client.post("/ingest", json=plain, headers=key)
        again = client.post("/ingest", json=spelt, headers=key)
        assert again.headers["Idempotency-Replayed"] == "true"

    def test_a_byte_order_mark_is_ignored(self, client: FlaskClient) -> None:
        body = b'\xef\xbb\xbf{"ids":[1],"priority":"LOW"}'
        assert client.post("/ingest", data=body).status_code == 200
        assert client.post("/queue/pause", data=b"\xef\xbb\xbf{}").status_code == 200

    @pytest.mark.parametrize(
        "content_type",
        [None, "application/json;charset=utf8", 'application/json; charset="UTF-8"'],
    )
    def test_json_in_utf_8_is_assumed_and_may_be_said(
        self, client: FlaskClient, content_type: str | None
    ) -> None:
        body = b'{"ids":[1],"priority":"LOW"}'
        assert client.post("/ingest", data=body, content_type=content_type).status_code == 200


class TestAsking:
    """Every way in which clients name an ingestion."""

    @pytest.mark.parametrize("name", ["ingestion_id", "request_id"])
    def test_the_id_may_be_in_a_body_or_the_query_under_either_name(
        self, still: Api, name: str
    ) -> None:
        ingestion_id = still.ingest([1])
        expected = still.status(ingestion_id)
        for asked in (
            still.client.get("/status", json={name: ingestion_id}),
            still.client.get("/status/", query_string={name: ingestion_id}),
            still.client.get("/status", data=json.dumps({name: ingestion_id}).encode()),
        ):
            assert (asked.status_code, asked.get_json()) == (200, expected)

    def test_the_query_wins_and_its_body_is_not_looked_at(self, still: Api) -> None:
        first, second = still.ingest([1]), still.ingest([2])
        for body in (json.dumps({"ingestion_id": second}).encode(), b"{"):
            asked = still.client.get(f"/status?ingestion_id={first}", data=body)
            assert asked.get_json()["ingestion_id"] == first

    @pytest.mark.parametrize(
        "body", [b"", b"{}", b'{"ingestion_id":null}', b'{"request_id":null}'], ids=repr
    )
    def test_a_body_that_names_nobody_is_refused(self, client: FlaskClient, body: bytes) -> None:
        answer = client.get("/status", data=body)
        assert answer.status_code == 400
        assert answer.get_json()["errors"][0]["pointer"] == "/ingestion_id"

    @pytest.mark.parametrize(
        ("body", "status"),
        [(b"{", 400), (b'{"ingestion_id":1}', 400), (b'{"id":"x"}', 400), (b"[]", 400)],
    )
    def test_a_body_is_as_strict_as_any(
        self, client: FlaskClient, body: bytes, status: int
    ) -> None:
        assert client.get("/status", data=body).status_code == status
        text = client.get("/status", data=body, content_type="text/plain")
        assert text.status_code == 415

    def test_an_id_may_be_written_in_upper_case(self, still: Api) -> None:
        """The answer has it as it is."""
        ingestion_id = still.ingest([1, 2, 3, 4])
        shouted = ingestion_id.upper()
        assert shouted != ingestion_id
        ask = still.client.get
        for answer in (
            ask(f"/status/{shouted}"),
            ask(f"/status/{shouted}/results"),
            ask("/status", query_string={"ingestion_id": shouted}),
            ask("/status", json={"request_id": shouted}),
            still.client.patch(f"/ingestions/{shouted}", json={"priority": "HIGH"}),
            still.client.post(f"/ingestions/{shouted}/cancel"),
        ):
            assert answer.status_code == 200
            assert answer.get_json()["ingestion_id"] == ingestion_id

    def test_the_default_settling_delay_is_what_the_suites_of_clients_expect(self) -> None:
        assert Settings().settle == 0.45


class TestWords:
    """Clients of ids know three words, and loop until `completed`."""

    @pytest.mark.parametrize("reply", [first_fails, all_fail], ids=["some", "all"])
    def test_whatever_becomes_of_ids_they_are_completed(self, api: Api, reply: Any) -> None:
        api.upstream.reply = reply
        ingestion_id, outcome = api.ingest([1, 2]), "failed" if reply is all_fail else None
        api.advance(5)
        found = api.status(ingestion_id)
        (batch,) = found["batches"]
        assert (found["status"], batch["status"]) == ("completed", "completed")
        assert found["outcome"] == batch["outcome"] == (outcome or "partially_failed")

    def test_a_cancelled_ingestion_of_ids_is_completed_too(self, api: Api) -> None:
        ingestion_id = api.ingest([1, 2, 3, 4])
        api.advance(3)
        answer = api.client.post(f"/ingestions/{ingestion_id}/cancel").get_json()
        found = api.status(ingestion_id)
        assert (answer["status"], found["status"]) == ("completed", "completed")
        assert found["outcome"] == "cancelled"
        assert [(batch["status"], batch["outcome"]) for batch in found["batches"]] == [
            ("completed", "succeeded"),
            ("completed", "cancelled"),
        ]

    def test_between_batches_and_while_one_is_left_the_whole_is_triggered(self, api: Api) -> None:
        """What is cancelled beside a batch under way is completed; the whole is not."""
        ingestion_id = api.ingest([1, 2, 3, 4])
        api.advance(0.5)
        api.client.post(f"/ingestions/{ingestion_id}/cancel")
        found = api.status(ingestion_id)
        assert (found["status"], found["outcome"]) == ("triggered", None)
        assert [(batch["status"], batch["outcome"]) for batch in found["batches"]] == [
            ("triggered", None),
            ("completed", "cancelled"),
        ]

    def test_mappings_fail_only_if_all_of_them_do(self, api: Api) -> None:
        for reply, words in (
            (all_fail, ("failed", "failed", "2 of 2 mappings failed; the results say why.")),
            (
                first_fails,
                ("completed", "partially_failed", "1 of 2 mappings failed; the results say why."),
            ),
            (lambda batch: [YES] * len(batch.items), ("completed", "succeeded", None)),
        ):
            api.upstream.reply = reply
            request_id = api.ingest_mappings(2)
            api.advance(6)
            found = api.status(request_id)
            assert (found["status"], found["outcome"], found["details"]) == words
            assert found["batches"][0]["status"] == words[0]
            assert found["batches"][0]["outcome"] == words[1]

    def test_cancelled_mappings_failed_and_the_details_say_so(self, api: Api) -> None:
        request_id = api.ingest_mappings(7)
        assert api.status(request_id)["details"] is None
        api.upstream.reply = first_fails
        api.advance(3)
        api.client.post(f"/ingestions/{request_id}/cancel")
        found = api.status(request_id)
        assert (found["status"], found["outcome"]) == ("failed", "cancelled")
        assert found["details"] == "Cancelled: 2 of 7 mappings were given up, 1 failed."
        assert found["batches_total"] == 2


class TestStatusOfInvalidBodies:
    """`INGEST_VALIDATION_STATUS`."""

    @pytest.fixture
    def client(self) -> Iterator[FlaskClient]:
        """Give a client that expects a 422."""
        with serving(Settings(validation_status=422), threaded=False) as api:
            yield api.client

    @pytest.mark.parametrize(
        ("method", "path"),
        [("POST", "/ingest"), ("PATCH", "/queue"), ("PATCH", "/ingestions/x")],
    )
    def test_a_body_that_is_json_and_not_valid_gets_it(
        self, client: FlaskClient, method: str, path: str
    ) -> None:
        body: object
        for body in ({}, {"priority": "low"}, [], {"x": 1}):
            answer = client.open(path, method=method, json=body)
            assert answer.status_code == answer.get_json()["status"] == 422
            assert answer.get_json()["type"] == "/problems/validation-error"

    @pytest.mark.parametrize(
        "body", [{}, {"ingestion_id": None}, {"request_id": None}, {"ingestion_id": 1}, {"x": 1}]
    )
    def test_a_body_that_names_no_ingestion_gets_it(
        self, client: FlaskClient, body: dict[str, Any]
    ) -> None:
        answer = client.get("/status", json=body)
        assert answer.status_code == answer.get_json()["status"] == 422

    def test_everything_else_keeps_its_own(self, client: FlaskClient) -> None:
        good = {"ids": [1], "priority": "LOW"}
        for answer in (
            client.post("/ingest", data=b"{"),
            client.post("/ingest?dry_run=x", json=good),
            client.post("/ingest", json=good, headers={"Idempotency-Key": "a b"}),
            client.get("/status"),
            client.get("/ingestions?limit=0"),
        ):
            assert answer.status_code == answer.get_json()["status"] == 400

    def test_the_document_says_so(self, client: FlaskClient) -> None:
        paths = client.get("/openapi.json").get_json()["paths"]
        responses = paths["/queue"]["patch"]["responses"]
        examples = responses["422"]["content"]["application/problem+json"]["examples"]
        assert examples["validation-error"]["value"]["status"] == 422
        bad = responses["400"]["content"]["application/problem+json"]["examples"]
        assert "validation-error" not in bad
        both = paths["/ingest"]["post"]["responses"]
        for status in ("400", "422"):
            assert (
                "validation-error"
                in (both[status]["content"]["application/problem+json"]["examples"])
            )


class TestUnknownKeys:
    """`INGEST_UNKNOWN_KEYS`."""

    @pytest.fixture
    def lenient(self) -> Iterator[Api]:
        """Give a service that ignores them."""
        with serving(Settings(unknown_keys="ignore"), threaded=False) as api:
            yield api

    def send(self, api: Api, body: dict[str, Any], **headers: str) -> TestResponse:
        """Post `body` with low priority."""
        return api.client.post("/ingest", json={**body, "priority": "LOW"}, headers=headers)

    def test_they_are_ignored_everywhere(self, lenient: Api) -> None:
        assert self.send(lenient, {"ids": [1], "user": "x"}).status_code == 200
        pause = lenient.client.post("/queue/pause", json={"reason": "r", "who": "me"})
        assert pause.get_json()["reason"] == "r"
        changed = lenient.client.patch("/queue", json={"interval_seconds": 1, "unit": "s"})
        assert changed.status_code == 200

    def test_what_is_ignored_in_a_mapping_is_not_sent(self, lenient: Api) -> None:
        extra = {"note": "x", "transformation": {"note": "kept"}}
        assert self.send(lenient, {"mappings": [MAPPING | extra]}).status_code == 200
        lenient.advance(1)
        assert lenient.sent() == [(0.45, [MAPPING | {"transformation": {"note": "kept"}}])]

    def test_what_is_ignored_makes_it_no_other_request(self, lenient: Api) -> None:
        key = {"Idempotency-Key": "k"}
        self.send(lenient, {"mappings": [MAPPING]}, **key)
        again = self.send(lenient, {"mappings": [MAPPING | {"x": 1}], "y": 2}, **key)
        assert again.headers["Idempotency-Replayed"] == "true"

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"x": 1}, "/ids"),
            ({"ids": [0], "x": 1}, "/ids/0"),
            ({"mappings": [{"id": "a", "source": "s", "x": 1}]}, "/mappings/0/target"),
            ({"mappings": [MAPPING, MAPPING | {"x": 1}]}, "/mappings/1/id"),
        ],
        ids=str,
    )
    def test_what_is_wrong_is_still_refused(
        self, lenient: Api, body: dict[str, Any], pointer: str
    ) -> None:
        answer = self.send(lenient, body)
        assert answer.status_code == 400
        assert [each["pointer"] for each in answer.get_json()["errors"]] == [pointer]

    def test_the_document_does_not_forbid_them(self, lenient: Api, client: FlaskClient) -> None:
        def strict(each: FlaskClient) -> list[str]:
            schemas = each.get("/openapi.json").get_json()["components"]["schemas"]
            return [name for name in schemas if "additionalProperties" in schemas[name]]

        assert "IdsRequest" in strict(client)
        assert "IdsRequest" not in strict(lenient.client)


def test_a_minus_zero_is_a_zero(client: FlaskClient) -> None:
    answer = client.patch("/queue", data=b'{"interval_seconds":-0.0}')
    assert b'"interval_seconds":0.0' in answer.data
