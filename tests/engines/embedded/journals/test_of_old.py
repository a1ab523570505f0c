"""Journals that services of every format so far have left behind when they were killed.

Each file in `of_old` is the dump of one, with what its ingestions are in its first line. They
were written by the last service of their format, and are never changed; that of format 6 by its
first one, out of that of format 5.
"""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from ingest_service.engines.embedded.journals.exporting import export
from ingest_service.engines.embedded.journals.importing import import_into
from ingest_service.engines.embedded.journals.statements import VERSION
from ingest_service.settings import Settings
from tests.moving import exported, finish, reader
from tests.restarts import restarting
from tests.support import Api

OF_OLD = Path(__file__).parent / "of_old"
#: A minute after the last of them was killed.
LATER = "2026-11-29T08:57:00Z"
SETTINGS = Settings(interval=0.2, settle=0)
EVERY_FORMAT = pytest.mark.parametrize("number", range(1, VERSION + 1))


def left_behind(number: int, path: Path) -> dict[str, str]:
    """Put a journal of a format at `path`; return what its ingestions are called."""
    text = (OF_OLD / f"format_{number}.sql").read_text("utf-8")
    with closing(apsw.Connection(str(path))) as db:
        db.execute(text).fetchall()
        assert db.execute("PRAGMA user_version").fetchall() == [(number,)]
    names: dict[str, str] = json.loads(text.partition("\n")[0].removeprefix("-- "))
    return names


def counts(api: Api, ingestion_id: str) -> tuple[int, ...]:
    """Return how many items wait, have succeeded, have failed and were cancelled."""
    told: dict[str, int] = api.status(ingestion_id)["counts"]
    return tuple(told[name] for name in ("queued", "succeeded", "failed", "cancelled"))


@EVERY_FORMAT
def test_everything_is_there(number: int, path: Path) -> None:
    ids = left_behind(number, path)
    with restarting(path, SETTINGS, at=LATER) as lives:
        api = lives.api
        assert [counts(api, ids[name]) for name in ("succeeded", "partially_failed")] == [
            (0, 4, 0, 0),
            (0, 4, 2, 0),
        ]
        assert [counts(api, ids[name]) for name in ("retrying", "under_way", "waiting_low")] == [
            (2, 1, 1, 0),
            (4, 3, 0, 0),
            (11, 0, 0, 0),
        ]
        results = api.results(ids["succeeded"])["results"]
        assert [(one["id"], one["processed_data"]) for one in results] == [
            (item, {"got": str(item), "list": [1.5, None, "é"]}) for item in (1, 2, 3, 4)
        ]
        assert api.status(ids["waiting_medium"])["priority"] == "MEDIUM"
        again = {"ids": [71, 72], "priority": "MEDIUM"}
        answer = api.client.post("/ingest", json=again, headers={"Idempotency-Key": "second"})
        assert answer.get_json() == {"ingestion_id": ids["waiting_medium"]}
        if number > 1:
            assert counts(api, ids["cancelled"]) == (0, 0, 0, 2)
            assert counts(api, ids["reopened"]) == (0, 2, 1, 0)
            assert api.status(ids["moved"])["priority"] == "HIGH"
            queue = api.client.get("/queue").get_json()
            assert (queue["reason"], queue["interval_seconds"]) == ("lunch", 0.3)
            assert api.client.get("/rate-proof").get_json()["violations"] == 0
        if number > 2:
            audit = api.client.get("/audit?limit=500").get_json()["entries"]
            assert {"move", "interval", "pause", "submit"} <= {one["action"] for one in audit}
        if number > 3:
            assert api.client.get(f"/status/{ids['deleted']}").status_code == 404


@EVERY_FORMAT
def test_it_goes_on_in_its_order(number: int, path: Path) -> None:
    """What was under way first; what is tried again has its own time."""
    ids = left_behind(number, path)
    with restarting(path, SETTINGS, at=LATER) as lives:
        finish(lives.api)
        sent = [items for _, items in lives.api.sent()]
        unfinished = [name for name in ids if name not in ("cancelled", "deleted")]
        assert {sum(counts(lives.api, ids[name])[::3]) for name in unfinished} == {0}

    assert sorted(items for items in sent if items[0] in (5, 10)) == [[5, 10]]
    high: list[list[Any]] = [[901, 902, 903], [4], [mapping(31), mapping(32)]]
    moved = [[90, 91]] if number > 1 else []
    low = [[50, 51, 52], [53, 54, 55], [56, 57, 58], [59, 60]]
    assert [items for items in sent if items != [5, 10]] == [*high, *moved, [71, 72], *low]


def mapping(number: int) -> dict[str, Any]:
    """Return a mapping as they were submitted."""
    deep = {"deep": [1, None]}
    return {"id": f"m{number}", "source": "s", "target": "t", "transformation": deep}


@EVERY_FORMAT
def test_it_can_be_moved_once_it_is_up_to_date(number: int, path: Path, tmp_path: Path) -> None:
    left_behind(number, path)
    moved = str(tmp_path / "moved")
    with restarting(path, SETTINGS, at=LATER):
        pass
    text = exported(export, str(path))
    import_into(moved, reader(text))
    assert exported(export, moved) == text
