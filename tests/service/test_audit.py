"""Who did what: every change is on record, in its order, as long as finished work is kept."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ingest_service.domain.model import Priority
from ingest_service.engines.audit import Action, AuditQuery, Mark
from ingest_service.errors import StorageUnavailable
from ingest_service.settings import Settings
from tests.meanwhile import refuse_records
from tests.restarts import Restarts
from tests.service.operating import FINE, NO, replies
from tests.service.owners import ANNA, BERT, OPERATOR, submit
from tests.support import Api, serving
from tests.web.support import clock_time, get

HOUR = 3_600.0


@pytest.fixture(params=["memory", "sqlite"])
def still(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    """Give a service on every journal that keeps what is finished for an hour."""
    where = "memory" if request.param == "memory" else str(tmp_path / "journal.sqlite3")
    with serving(Settings(journal=where, retention=HOUR), threaded=False) as api:
        yield api
        api.parts.close(0)


def audit(api: Api, **query: Any) -> list[dict[str, Any]]:
    """Return who did what, the newest first."""
    entries: list[dict[str, Any]] = get(api.client, "/audit", **query)["entries"]
    return entries


def everything(api: Api) -> str:
    """Do everything that is kept on record; return the id of what it was done to."""
    api.upstream.reply = replies([FINE, NO, NO], FINE)
    operator, one = api.parts.service.operator, submit(api, ANNA, 3)
    api.advance(1)
    operator.move(one, Priority.HIGH, OPERATOR)
    api.advance(5)
    operator.retry(one, ANNA)
    operator.pause("lunch", OPERATOR)
    operator.cancel(one, ANNA)
    operator.resume(OPERATOR)
    operator.set_interval(2.0, OPERATOR)
    operator.keys_reloaded(["anna"], ["anna", "bert"])
    operator.delete(one, OPERATOR)
    return one


def test_every_change_is_on_record_with_its_key_its_target_and_its_request(still: Api) -> None:
    """Newest first, and what was done at the same moment in the order in which it was done."""
    one = everything(still)
    told = [
        (entry["at"], entry["key"], entry["action"], entry["target"], entry["request_id"])
        for entry in audit(still)
    ]
    effects = [(entry["before"], entry["after"]) for entry in audit(still)]

    later = clock_time(6)
    assert told == [
        (later, "operator", "delete", one, "operator-1"),
        (later, None, "keys", None, None),
        (later, "operator", "interval", None, "operator-1"),
        (later, "operator", "resume", None, "operator-1"),
        (later, "anna", "cancel", one, "anna-1"),
        (later, "operator", "pause", None, "operator-1"),
        (later, "anna", "retry", one, "anna-1"),
        (clock_time(1), "operator", "move", one, "operator-1"),
        (clock_time(0), "anna", "submit", one, "anna-1"),
    ]
    assert effects == [
        ({"items": 3, "outcome": "cancelled"}, None),
        (["anna"], ["anna", "bert"]),
        (5.0, 2.0),
        ("lunch", None),
        ({"queued": 2}, {"cancelled": 2}),
        (None, "lunch"),
        ({"failed": 2}, {"queued": 2}),
        ({"priority": "LOW"}, {"priority": "HIGH"}),
        (None, {"kind": "ids", "items": 3}),
    ]


def test_requests_of_clients_go_by_their_own_ids(still: Api) -> None:
    """Those in `X-Request-ID`, in the answer and, if it is harmless, in the request."""
    given = {"X-Request-ID": "mine"}
    body = {"ids": [1], "priority": "LOW"}
    posted = still.client.post("/ingest", json=body, headers=given)
    paused = still.client.post("/queue/pause")

    assert [entry["request_id"] for entry in audit(still)] == [
        paused.headers["X-Request-ID"],
        "mine",
    ]
    assert posted.headers["X-Request-ID"] == "mine"
    assert {entry["key"] for entry in audit(still)} == {None}


def test_what_changes_nothing_is_not_on_record(still: Api) -> None:
    """Neither what is done twice, nor what is refused, nor a look."""
    one = submit(still, ANNA)
    still.client.post(f"/ingestions/{one}/cancel")
    before = audit(still)
    still.client.post(f"/ingestions/{one}/cancel")
    still.client.post(f"/ingestions/{one}/retry")
    still.client.patch(f"/ingestions/{one}", json={"priority": "HIGH"})
    still.client.delete("/ingestions/x")
    submit(still, ANNA, key="k")
    submit(still, ANNA, key="k")
    assert len(audit(still)) == len(before) + 1


def test_what_is_already_so_is_not_on_record(api: Api) -> None:
    """The answers are the same; what is different is on record, if only in its reason."""
    client, one = api.client, submit(api, ANNA)
    for _ in range(2):
        running = [
            client.post("/queue/resume").get_json(),
            client.patch("/queue", json={"interval_seconds": 5}).get_json(),
            client.patch(f"/ingestions/{one}", json={"priority": "LOW"}).status_code,
        ]
    assert [entry["action"] for entry in audit(api)] == ["submit"]
    assert (running[0]["state"], running[1]["interval_seconds"], running[2]) == ("running", 5, 200)

    for reason in ("lunch", "lunch", "dinner"):
        paused = client.post("/queue/pause", json={"reason": reason})
        assert paused.get_json()["reason"] == reason
    for seconds in (7, 7, 5):
        client.patch("/queue", json={"interval_seconds": seconds})
    for _ in range(2):
        client.post("/queue/resume")
    assert [(entry["before"], entry["after"]) for entry in audit(api)[:-1]] == [
        ("dinner", None),
        (7.0, 5.0),
        (5.0, 7.0),
        ("lunch", "dinner"),
        (None, "lunch"),
    ]


@pytest.mark.parametrize("action", Action)
def test_it_can_be_asked_for_one_action(still: Api, action: Action) -> None:
    everything(still)
    assert [entry["action"] for entry in audit(still, action=action)] == [action]


def test_it_can_be_asked_for_a_key_and_a_period(still: Api) -> None:
    """From the first moment on, up to and without the last."""
    everything(still)
    assert [entry["action"] for entry in audit(still, key="anna")] == ["cancel", "retry", "submit"]
    assert audit(still, key="nobody") == []
    period = {"from": clock_time(0), "to": clock_time(6)}
    assert [entry["action"] for entry in audit(still, **period)] == ["move", "submit"]
    period = {"from": clock_time(0.5), "to": clock_time(1.001)}
    assert [entry["action"] for entry in audit(still, **period)] == ["move"]


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_pages_fit_together(still: Api, limit: int) -> None:
    """Whatever comes later, and however many share a moment."""
    everything(still)
    whole = audit(still)
    pages: list[dict[str, Any]] = []
    query: dict[str, str] = {}
    still.advance(1)
    while True:
        page = get(still.client, "/audit", limit=limit, **query)
        pages += page["entries"]
        assert len(page["entries"]) <= limit
        if page["next_cursor"] is None:
            break
        query = {"cursor": page["next_cursor"]}
        submit(still, BERT)
    assert pages == whole


def test_all_of_it_comes_as_a_stream(still: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry a line, in the same order, page by page."""
    monkeypatch.setattr("ingest_service.service.queries.STREAM_PAGE", 2)
    everything(still)
    answer = still.client.get("/audit?format=ndjson&limit=1")
    lines = [still.client.application.json.loads(line) for line in answer.text.splitlines()]

    assert lines == audit(still)
    assert answer.content_type == "application/x-ndjson"
    assert "audit.ndjson" in answer.headers["Content-Disposition"]
    assert still.client.get("/audit?format=ndjson&key=x").text == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("action", bad) for bad in ("", "hold", "restart", "SUBMIT")),
        *(("cursor", bad) for bad in ("", "x", "A" * 23, "_" * 24, "AAAAAAAAAAA=")),
        *(("limit", bad) for bad in ("0", "1001", "x")),
        ("format", "csv"),
        ("from", "today"),
    ],
)
def test_what_it_cannot_be_asked_is_refused(still: Api, name: str, value: str) -> None:
    answer = still.client.get("/audit", query_string={name: value})
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.get_json()["errors"]] == [f"/{name}"]


def test_a_key_that_sees_only_its_own_sees_what_it_did(still: Api) -> None:
    everything(still)
    submit(still, BERT)
    query = AuditQuery(datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC), 100)
    asked = still.parts.service.queries.audit
    assert [entry.action for entry in asked(query, ANNA)] == ["cancel", "retry", "submit"]
    assert [entry.action for entry in asked(query, BERT)] == ["submit"]
    assert len(asked(query, OPERATOR)) == 10


def test_it_is_kept_as_long_as_finished_work(still: Api) -> None:
    """And not shown a moment longer, whatever is still in the file."""
    submit(still, ANNA)
    still.parts.service.operator.pause("", OPERATOR)
    still.advance(HOUR - 1)
    still.parts.service.operator.resume(OPERATOR)
    assert [entry["action"] for entry in audit(still)] == ["resume", "pause", "submit"]
    still.advance(2)
    assert [entry["action"] for entry in audit(still)] == ["resume"]


def test_it_survives_a_restart(lives: Restarts) -> None:
    """What is not kept on record without its effect is not lost with it either."""
    everything(lives.api)
    before = audit(lives.api)
    lives.crash()
    assert audit(lives.api) == before


@pytest.mark.parametrize("action", ["cancel", "move", "retry", "delete", "pause", "interval"])
def test_a_change_that_cannot_be_recorded_is_not_on_record(lives: Restarts, action: str) -> None:
    """Nor is its effect: they are one."""
    api = lives.api
    api.upstream.reply = replies(NO)
    finished = submit(api, ANNA)
    api.advance(2)
    waiting, operator = submit(api, ANNA), api.parts.service.operator
    before = audit(api), api.status(finished), api.status(waiting), get(api.client, "/queue")
    end = refuse_records(api.parts.journal, Mark, StorageUnavailable("no"))
    acts: dict[str, Callable[[], object]] = {
        "cancel": lambda: operator.cancel(waiting, OPERATOR),
        "move": lambda: operator.move(waiting, Priority.HIGH, OPERATOR),
        "retry": lambda: operator.retry(finished, OPERATOR),
        "delete": lambda: operator.delete(finished, OPERATOR),
        "pause": lambda: operator.pause("", OPERATOR),
        "interval": lambda: operator.set_interval(9.0, OPERATOR),
    }
    with pytest.raises(StorageUnavailable):
        acts[action]()
    end()

    assert before == (
        audit(api),
        api.status(finished),
        api.status(waiting),
        get(api.client, "/queue"),
    )
    acts[action]()
    assert audit(api)[0]["action"] == action
