"""Records on their way into a journal: each to who writes its kind, in the order of the file."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from ingest_service.engines.transfer.lines import Reader, Summary
from ingest_service.engines.transfer.records import (
    BatchRecord,
    IngestionRecord,
    ItemsRecord,
    KeyRecord,
    MarkRecord,
    MinuteRecord,
    QueueRecord,
    Record,
    TotalsRecord,
)
from ingest_service.errors import JournalUnusable


class Filling(ABC):
    """What an engine writes of each kind of record."""

    def __init__(self) -> None:
        self._adders: Mapping[type[Record], Callable[[Any], None]] = {
            IngestionRecord: self._add_ingestion,
            ItemsRecord: self._add_items,
            BatchRecord: self._add_batch,
            KeyRecord: self._add_key,
            MarkRecord: self._add_mark,
            MinuteRecord: self._add_minute,
            TotalsRecord: self._add_totals,
            QueueRecord: self._add_queue,
        }

    def fill(self, reader: Reader) -> Summary:
        """Write everything that is read; return what it was."""
        for record in reader:
            self.add(record)
        self.end()
        assert reader.summary is not None  # noqa: S101 - it has read everything
        return reader.summary

    def add(self, record: Record) -> None:
        """Write a record, sooner or later."""
        if not isinstance(record, ItemsRecord | BatchRecord):
            self._end_ingestion()
        self._adders[type(record)](record)

    def end(self) -> None:
        """Write what is left."""
        self._end_ingestion()

    @abstractmethod
    def _end_ingestion(self) -> None:
        """Write what is left of the ingestion before, if there is one."""

    @abstractmethod
    def _add_ingestion(self, record: IngestionRecord) -> None: ...
    @abstractmethod
    def _add_items(self, record: ItemsRecord) -> None: ...
    @abstractmethod
    def _add_batch(self, record: BatchRecord) -> None: ...
    @abstractmethod
    def _add_key(self, record: KeyRecord) -> None: ...
    @abstractmethod
    def _add_mark(self, record: MarkRecord) -> None: ...
    @abstractmethod
    def _add_minute(self, record: MinuteRecord) -> None: ...
    @abstractmethod
    def _add_totals(self, record: TotalsRecord) -> None: ...
    @abstractmethod
    def _add_queue(self, record: QueueRecord) -> None: ...


def orphan(record: Record) -> JournalUnusable:
    """Return what is wrong with a record that belongs to an ingestion, and follows none."""
    return JournalUnusable(f"{type(record).__name__} without an ingestion.")
