"""All results as a stream: exact, harmless in a spreadsheet, and never large in memory."""

import csv
import io
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from ingest_service.domain.model import Batch, Outcome
from ingest_service.errors import IngestionNotFound
from ingest_service.settings import Settings
from tests.support import Api, serving

AT = "2026-01-01T12:00:01.450Z"
COLUMNS = ["status", "processed_data", "error", "timestamp", "attempts", "status_code"]
FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|'/c calc'!A0")
STRANGE = (
    'a "quoted" one',
    "commas, and; semicolons",
    "two\nlines",
    "two\r\nlines",
    "Ünï ✓ \U0001f600 \u202e",
    "'; DROP TABLE x;--",
    "<svg onload=alert(1)>",
    " blanks ",
    "\0",
    '"',
    "'=1",
    "a=1",
)


@pytest.fixture
def still() -> Iterator[Api]:
    """Give a service whose worker rests until time is advanced."""
    with serving(Settings(), threaded=False) as served:
        yield served


def half(batch: Batch) -> list[Outcome]:
    """Let every second item fail, each in a way of its own."""
    return [
        Outcome(succeeded=False, error=f"no, {item}", status_code=404)
        if place % 2
        else Outcome(succeeded=True, processed_data={"n": item, "text": 'a"b'}, status_code=200)
        for place, item in enumerate(batch.items)
    ]


def text(client: FlaskClient, ingestion_id: str, form: str, **query: Any) -> str:
    """Return a stream as text, line ends as they are."""
    answer = client.get(f"/status/{ingestion_id}/results", query_string={"format": form, **query})
    assert answer.status_code == 200
    return bytes(answer.data).decode()


def rows(client: FlaskClient, ingestion_id: str, **query: Any) -> list[list[str]]:
    """Return the rows of a CSV stream."""
    return list(csv.reader(io.StringIO(text(client, ingestion_id, "csv", **query), newline="")))


def lines(client: FlaskClient, ingestion_id: str, **query: Any) -> list[Any]:
    """Return the objects of a NDJSON stream."""
    found = text(client, ingestion_id, "ndjson", **query)
    assert found == "" or found.endswith("\n")
    return [json.loads(line) for line in found.split("\n")[:-1]]


def post_mappings(api: Api, ids: tuple[str, ...]) -> str:
    """Post mappings with these ids; return the id of the ingestion."""
    mappings = [{"id": each, "source": "s", "target": "t"} for each in ids]
    answer = api.client.post("/ingest", json={"mappings": mappings, "priority": "LOW"})
    return str(answer.get_json()["request_id"])


def test_csv_is_exact(api: Api) -> None:
    """One row an item in their order, ends of lines as RFC 4180 says."""
    api.upstream.reply = half
    ingestion_id = api.ingest([7, 8])
    api.advance(5)

    assert text(api.client, ingestion_id, "csv") == (
        "id,status,processed_data,error,timestamp,attempts,status_code\r\n"
        f'7,success,"{{""n"":7,""text"":""a\\""b""}}",,{AT},1,200\r\n'
        f'8,failed,,"no, 8",{AT},1,404\r\n'
    )


def test_ndjson_is_exact(api: Api) -> None:
    """The entries of the JSON answer, one a line."""
    api.upstream.reply = half
    ingestion_id = api.ingest([7, 8, 9, 10])
    api.advance(10)

    assert text(api.client, ingestion_id, "ndjson").split("\n")[0] == (
        '{"id":7,"status":"success","processed_data":{"n":7,"text":"a\\"b"},'
        f'"timestamp":"{AT}","attempts":1,"status_code":200}}'
    )
    assert lines(api.client, ingestion_id) == api.results(ingestion_id)["results"]


@pytest.mark.parametrize(
    ("form", "media_type"),
    [("csv", "text/csv; charset=utf-8"), ("ndjson", "application/x-ndjson")],
)
def test_the_headers_make_a_browser_save_it(api: Api, form: str, media_type: str) -> None:
    ingestion_id = api.ingest([1])
    answer = api.client.get(f"/status/{ingestion_id}/results?format={form}")
    head = api.client.head(f"/status/{ingestion_id}/results?format={form}")

    for each in (answer, head):
        assert each.content_type == media_type
        assert each.headers["Content-Disposition"] == (
            f'attachment; filename="{ingestion_id}.{form}"'
        )
        assert each.headers["X-Content-Type-Options"] == "nosniff"
        assert each.headers["Cache-Control"] == "no-store"
        # Nobody knows how long it will be.
        assert "Content-Length" not in each.headers
    assert head.data == b""


def test_json_can_be_asked_for_by_name(api: Api) -> None:
    ingestion_id = api.ingest([1])
    api.advance(5)
    assert api.results(ingestion_id, format="json") == api.results(ingestion_id)


def test_mappings_are_called_what_their_clients_call_them(api: Api) -> None:
    ingestion_id = api.ingest_mappings(2)
    api.advance(5)
    assert rows(api.client, ingestion_id)[0] == ["mapping_id", *COLUMNS]
    assert [each["mapping_id"] for each in lines(api.client, ingestion_id)] == ["m0", "m1"]


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_an_outcome_can_be_asked_for(api: Api, form: str) -> None:
    api.upstream.reply = half
    ingestion_id = api.ingest(range(1, 8))
    api.advance(20)

    def ids(**query: Any) -> list[int]:
        if form == "ndjson":
            return [each["id"] for each in lines(api.client, ingestion_id, **query)]
        return [int(each[0]) for each in rows(api.client, ingestion_id, **query)[1:]]

    assert ids() == [*range(1, 8)]
    assert ids(outcome="failed") == [2, 5]
    assert ids(outcome="succeeded") == [1, 3, 4, 6, 7]


def test_a_running_ingestion_streams_what_is_settled_so_far(api: Api) -> None:
    ingestion_id = api.ingest([1, 2, 3, 4])
    assert rows(api.client, ingestion_id) == [["id", *COLUMNS]]
    assert lines(api.client, ingestion_id) == []
    api.advance(3)
    assert [each["id"] for each in lines(api.client, ingestion_id)] == [1, 2, 3]


def test_cancelled_items_have_no_result(api: Api) -> None:
    ingestion_id = api.ingest([1, 2, 3, 4])
    api.advance(3)
    api.client.post(f"/ingestions/{ingestion_id}/cancel")
    assert [each["id"] for each in lines(api.client, ingestion_id)] == [1, 2, 3]


def test_no_cell_is_taken_for_a_formula(still: Api) -> None:
    """Wherever the text comes from: the client, or the upstream."""
    still.upstream.reply = lambda batch: [
        Outcome(succeeded=True, processed_data=item["id"])
        if place % 2
        else Outcome(succeeded=False, error=item["id"])
        for place, item in enumerate(batch.items)
    ]
    ingestion_id = post_mappings(still, FORMULAS)
    still.advance(20)

    found = rows(still.client, ingestion_id)[1:]
    assert [row[0] for row in found] == [f"'{each}" for each in FORMULAS]
    told = [row[2] or row[3] for row in found]
    assert told == [f"'{each}" for each in FORMULAS]
    assert [each["mapping_id"] for each in lines(still.client, ingestion_id)] == [*FORMULAS]


@pytest.mark.parametrize("number", [-5, -0.5, 2**63 - 1, -(2**63)])
def test_a_number_stays_a_number(still: Api, number: float) -> None:
    """Whatever its sign, no number is a formula."""
    still.upstream.reply = lambda batch: [Outcome(succeeded=True, processed_data=number)]
    ingestion_id = still.ingest([1])
    still.advance(5)
    assert rows(still.client, ingestion_id)[1][2] == str(number)
    assert lines(still.client, ingestion_id)[0]["processed_data"] == number


@pytest.mark.parametrize("each", STRANGE, ids=ascii)
def test_any_text_comes_back_as_it_was(still: Api, each: str) -> None:
    ingestion_id = post_mappings(still, (each, "plain"))
    still.advance(5)
    assert [row[0] for row in rows(still.client, ingestion_id)[1:]] == [each, "plain"]
    assert [row["mapping_id"] for row in lines(still.client, ingestion_id)] == [each, "plain"]


@pytest.mark.parametrize(
    ("data", "cell"),
    [(None, ""), ("", ""), ("x", "x"), (1.5, "1.5"), (True, "true"), ([1, "ü"], '[1,"ü"]')],
    ids=repr,
)
def test_whatever_the_upstream_answered_fits_into_a_cell(
    still: Api, data: object, cell: str
) -> None:
    still.upstream.reply = lambda batch: [Outcome(succeeded=True, processed_data=data)]
    ingestion_id = still.ingest([1])
    still.advance(5)
    assert rows(still.client, ingestion_id)[1][1:4] == ["success", cell, ""]


@pytest.mark.parametrize("form", ["", "xml", "CSV", "\0"])
def test_another_format_is_refused(still: Api, form: str) -> None:
    answer = still.client.get(f"/status/{still.ingest([1])}/results", query_string={"format": form})
    assert answer.status_code == 400
    assert [each["pointer"] for each in answer.get_json()["errors"]] == ["/format"]


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_an_unknown_ingestion_has_no_stream(still: Api, form: str) -> None:
    answer = still.client.get(f"/status/x/results?format={form}")
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


class TestAHundredThousand:
    """A large ingestion, sent in batches of a thousand."""

    @pytest.fixture(scope="class")
    @classmethod
    def large(cls) -> Iterator[tuple[FlaskClient, str]]:
        """Give a client and a finished ingestion with a hundred thousand results."""
        settings = Settings(batch_size_ids=1_000, interval=0, settle=0)
        with serving(settings, threaded=False) as api:
            api.upstream.latency = 0
            api.upstream.reply = lambda batch: [
                Outcome(succeeded=True, processed_data={"id": item, "text": "x" * 30})
                for item in batch.items
            ]
            ingestion_id = api.ingest(range(1, 100_001))
            api.advance(1)
            api.upstream.starts.clear()
            yield api.client, ingestion_id

    @pytest.mark.parametrize("form", ["csv", "ndjson"])
    def test_they_come_in_pieces(self, large: tuple[FlaskClient, str], form: str) -> None:
        """All of them, and none is large."""
        client, ingestion_id = large
        found = size = 0
        with client.get(f"/status/{ingestion_id}/results?format={form}", buffered=False) as answer:
            for chunk in answer.iter_encoded():
                found += chunk.count(b"\n")
                size += len(chunk)
                assert len(chunk) < 2**20
        assert found == 100_000 + (form == "csv")
        assert size > 8 * 2**20

    @pytest.mark.parametrize("form", ["csv", "ndjson"])
    def test_memory_does_not_grow_with_what_has_been_sent(
        self, large: tuple[FlaskClient, str], form: str
    ) -> None:
        """The tenth piece takes no more than the second did."""
        client, ingestion_id = large
        peaks = []
        with client.get(f"/status/{ingestion_id}/results?format={form}", buffered=False) as answer:
            pieces = answer.iter_encoded()
            next(pieces)
            tracemalloc.start()
            for _ in range(5):
                next(pieces)
                peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[-1] < peaks[1] * 1.1
        assert peaks[-1] < 8 * 2**20


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_what_is_deleted_while_it_is_read_does_not_end_as_if_it_were_whole(
    api: Api, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The server breaks the connection when a part of a body cannot be made."""
    monkeypatch.setattr("ingest_service.service.queries.STREAM_PAGE", 3)
    ingestion_id = api.ingest(range(1, 10))
    api.advance(20)

    parts = api.client.get(f"/status/{ingestion_id}/results?format={form}").iter_encoded()
    begun = next(parts) + next(parts)
    assert api.client.delete(f"/ingestions/{ingestion_id}").status_code == 200
    with pytest.raises(IngestionNotFound):
        list(parts)
    assert b"success" in begun
