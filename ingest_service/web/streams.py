"""All results of an ingestion as a stream, page by page: memory does not grow with it."""

import csv
import io
from collections.abc import Iterable, Iterator

from flask import Response

from ingest_service.domain.ingestion import IngestionSnapshot
from ingest_service.domain.items import Kind
from ingest_service.domain.model import FAMILIES
from ingest_service.engines import Result
from ingest_service.engines.audit import AuditEntry
from ingest_service.web import render
from ingest_service.web.responses import to_json

_MEDIA_TYPES = {"ndjson": "application/x-ndjson", "csv": "text/csv"}
#: What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def stream(form: str, snapshot: IngestionSnapshot, pages: Iterable[list[Result]]) -> Response:
    """Return the results in `pages` as `ndjson` or `csv`."""
    write = _ndjson if form == "ndjson" else _csv
    return _attachment(write(snapshot.kind, pages), form, snapshot.ingestion_id)


def audit(pages: Iterable[list[AuditEntry]]) -> Response:
    """Return what was done, in `pages`, as `ndjson`."""
    parts = (_lines(map(render.audit_entry, page)) for page in pages)
    return _attachment(parts, "ndjson", "audit")


def _attachment(parts: Iterable[bytes] | Iterable[str], form: str, name: str) -> Response:
    response = Response(parts, mimetype=_MEDIA_TYPES[form])
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.{form}"'
    return response


def _lines(values: Iterable[object]) -> bytes:
    return b"".join(to_json(value) + b"\n" for value in values)


def _ndjson(kind: Kind, pages: Iterable[list[Result]]) -> Iterator[bytes]:
    for page in pages:
        yield _lines(render.result(kind, result) for result in page)


def _csv(kind: Kind, pages: Iterable[list[Result]]) -> Iterator[str]:
    columns = (
        FAMILIES[kind].item_key,
        "status",
        "processed_data",
        "error",
        "timestamp",
        "attempts",
        "status_code",
    )
    yield _rows([columns])
    for page in pages:
        entries = (render.result(kind, result) for result in page)
        yield _rows([_cell(entry.get(column)) for column in columns] for entry in entries)


def _rows(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue()


def _cell(value: object) -> str:
    """Return `value` as text; a text that a spreadsheet would take for a formula is quoted."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return to_json(value).decode()
