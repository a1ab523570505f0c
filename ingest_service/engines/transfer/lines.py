"""Records as lines of JSON, the same lines for the same journal whoever writes them.

The first line tells the format, the last one how many records there are and the SHA-256 of all
lines before it. A file is read and written line by line, so its length does not matter.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import IO, Any

import orjson

from ingest_service import json_text
from ingest_service.domain.items import ITEMS, Ids, Items, Kind
from ingest_service.engines.transfer.records import (
    BatchRecord,
    IngestionRecord,
    ItemsRecord,
    KeyRecord,
    MarkRecord,
    MinuteRecord,
    QueueRecord,
    Record,
    RetryRecord,
    StartRecord,
    TotalsRecord,
)
from ingest_service.errors import JournalUnusable

#: The format of the lines.
FORMAT = 1
_FORMAT_KEY = "ingest_service_export"
_END = "end"
#: A batch with the largest outcomes that are kept is shorter.
_LONGEST_LINE = 2**30


@dataclass(frozen=True, slots=True)
class Summary:
    """What was moved."""

    #: How many of each, by name.
    counts: Mapping[str, int]
    #: Equal for equal journals.
    sha256: str


def write(records: Iterable[Record], stream: IO[bytes]) -> Summary:
    """Write all `records`, with the lines around them."""
    digest, counts = hashlib.sha256(), Counter[str]()

    def put(document: Any) -> None:
        line = _dump(document)
        digest.update(line)
        stream.write(line)

    put({_FORMAT_KEY: FORMAT})
    for record in records:
        name, number = _counted(record)
        counts[name] += number
        put({_NAMES[type(record)]: record})
    summary = Summary(dict(counts), digest.hexdigest())
    stream.write(_dump({_END: summary}))
    stream.flush()
    return summary


class Reader:
    """Yields the records of a stream; raises `JournalUnusable` for anything that is not whole.

    Whether it is, is known only after the last record: until then nothing may be kept.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name
        self._digest = hashlib.sha256()
        #: Of everything before the last line.
        self._before = self._digest
        self._line_no = 0
        #: What was read, once all of it was.
        self.summary: Summary | None = None

    def __iter__(self) -> Iterator[Record]:
        self._check_format(self._next())
        counts = Counter[str]()
        while True:
            name, value = self._next()
            if name == _END:
                break
            try:
                record = _RECORDS[name](value)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                raise self._damaged() from None
            what, number = _counted(record)
            counts[what] += number
            yield record
        summary = Summary(dict(counts), self._before.hexdigest())
        if value != asdict(summary):
            raise self._damaged()
        if self._stream.read(1):
            raise JournalUnusable(f"{self._name}: something follows the end; nothing was imported.")
        self.summary = summary

    def _next(self) -> tuple[str, Any]:
        """Return the name and the value of the next line."""
        self._before = self._digest.copy()
        line = self._stream.readline(_LONGEST_LINE)
        self._line_no += 1
        if not line.endswith(b"\n"):
            raise JournalUnusable(
                f"{self._name}: cut short at line {self._line_no}; nothing was imported."
            )
        self._digest.update(line)
        try:
            ((name, value),) = json_text.loads(line).items()
        except (ValueError, AttributeError):
            raise self._damaged() from None
        return name, value

    def _check_format(self, head: tuple[str, Any]) -> None:
        name, version = head
        if name != _FORMAT_KEY or not isinstance(version, int):
            raise JournalUnusable(f"{self._name}: is not what `export` writes.")
        if version > FORMAT:
            raise JournalUnusable(
                f"{self._name}: written by a newer version (format {version}, this one knows "
                f"{FORMAT}); upgrade the service."
            )

    def _damaged(self) -> JournalUnusable:
        where = f"line {self._line_no}" if self._line_no > 1 else "the first line"
        return JournalUnusable(f"{self._name}: damaged at {where}; nothing was imported.")


def _dump(document: Any) -> bytes:
    options = orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(document, default=_default, option=options)


def _default(value: Any) -> Any:
    if isinstance(value, bytes):
        # JSON already.
        return orjson.Fragment(value)
    if isinstance(value, Ids):
        return value[:]
    # Mappings are lines of JSON, in which no line ends.
    return orjson.Fragment(b"[" + value.to_bytes().replace(b"\n", b",") + b"]")


def _counted(record: Record) -> tuple[str, int]:
    if isinstance(record, ItemsRecord):
        return "items", len(record.items)
    if isinstance(record, BatchRecord):
        return "starts", len(record.starts)
    return _PLURALS[type(record)], 1


def _items(value: Any) -> ItemsRecord:
    listed = value["items"]
    kind = Kind.IDS if isinstance(listed[0], int) else Kind.MAPPINGS
    items: Items = ITEMS[kind](listed)
    return ItemsRecord(value["first_item"], items)


def _batch(value: Any) -> BatchRecord:
    retry = value["retry"]
    return BatchRecord(
        value["batch"],
        [_start(start) for start in value["starts"]],
        None if retry is None else RetryRecord(**retry),
        value["cancelled"],
    )


def _start(value: Any) -> StartRecord:
    if value["outcomes"] is not None:
        value["outcomes"] = json_text.dumps(value["outcomes"])
    return StartRecord(**value)


_NAMES: Mapping[type[Record], str] = {
    IngestionRecord: "ingestion",
    ItemsRecord: "items",
    BatchRecord: "batch",
    KeyRecord: "idempotency_key",
    MarkRecord: "mark",
    MinuteRecord: "minute",
    TotalsRecord: "totals",
    QueueRecord: "queue",
}
_PLURALS: Mapping[type[Record], str] = {
    IngestionRecord: "ingestions",
    KeyRecord: "idempotency_keys",
    MarkRecord: "marks",
    MinuteRecord: "minutes",
    TotalsRecord: "totals",
    QueueRecord: "queue",
}
_RECORDS: Mapping[str, Callable[[Any], Record]] = {
    "ingestion": lambda value: IngestionRecord(**value),
    "items": _items,
    "batch": _batch,
    "idempotency_key": lambda value: KeyRecord(**value),
    "mark": lambda value: MarkRecord(**value),
    "minute": lambda value: MinuteRecord(**value),
    "totals": lambda value: TotalsRecord(**value),
    "queue": lambda value: QueueRecord(**value),
}
