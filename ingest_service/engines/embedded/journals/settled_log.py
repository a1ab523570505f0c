"""What became of the batches of one ingestion, in one piece of memory."""

import struct
from array import array
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from ingest_service.domain.model import Outcome
from ingest_service.engines.micros import to_datetime, to_micros
from ingest_service.engines.offsets import pack_offsets, unpack_offsets
from ingest_service.engines.outcomes import decode_outcomes

#: When it was settled; twice the start, and 1 more if the batch has a record before this one;
#: how many of its bytes are offsets, and how many the outcomes as text.
_HEAD = struct.Struct("<qIHI")
#: Where the record before it begins, plus 1.
_BEFORE = struct.Struct("<Q")
#: The largest number that four bytes hold.
_NARROW = 2**32 - 1


class SettledBatch(NamedTuple):
    """How a start of a batch has ended."""

    start_no: int
    at: datetime
    #: None: all of them.
    offsets: Sequence[int] | None
    #: Final outcomes as text, one an offset.
    text: bytes

    def outcomes(self) -> Iterator[tuple[int, Outcome]]:
        """Yield the final outcomes by their offsets."""
        outcomes = decode_outcomes(self.text)
        offsets = range(len(outcomes)) if self.offsets is None else self.offsets
        return zip(offsets, outcomes, strict=True)


class SettledLog:
    """Records one after the other; an object each would cost more than what they say."""

    def __init__(self) -> None:
        self._records = bytearray()
        #: Where the last record of each batch begins, plus 1; 0 if there is none.
        self._last = array("I")

    def add(self, index: int, settled: SettledBatch) -> None:
        """Keep how a start of batch `index` has ended; a second time changes nothing."""
        if settled.start_no == self.last_start_no(index):
            return
        if index >= len(self._last):
            self._last.extend([0] * (index + 1 - len(self._last)))
        offsets = b"" if settled.offsets is None else pack_offsets(settled.offsets) or b""
        before, at = self._last[index], to_micros(settled.at)
        start = 2 * settled.start_no + bool(before)
        head = _HEAD.pack(at, start, len(offsets), len(settled.text))
        if len(self._records) >= _NARROW and self._last.typecode == "I":
            self._last = array("Q", self._last)
        self._last[index] = len(self._records) + 1
        self._records += head
        if before:
            self._records += _BEFORE.pack(before)
        self._records += offsets + settled.text

    def last_start_no(self, index: int) -> int:
        """Return the start of batch `index` that has ended last, 0 if none has."""
        position = self._last[index] if index < len(self._last) else 0
        return int(_HEAD.unpack_from(self._records, position - 1)[1]) // 2 if position else 0

    def of_batch(self, index: int) -> list[SettledBatch]:
        """Return how the starts of batch `index` have ended, the first one first."""
        position = self._last[index] if index < len(self._last) else 0
        starts = []
        while position:
            position, start = self._read(position - 1)
            starts.append(start)
        return starts[::-1]

    def start_counts(self) -> dict[int, int]:
        """Return the last start of each batch that has ended, by index."""
        counts = ((index, self.last_start_no(index)) for index in range(len(self._last)))
        return {index: count for index, count in counts if count}

    def _read(self, at: int) -> tuple[int, SettledBatch]:
        micros, start, offsets, text = _HEAD.unpack_from(self._records, at)
        body, before = at + _HEAD.size, 0
        if start % 2:
            (before,) = _BEFORE.unpack_from(self._records, body)
            body += _BEFORE.size
        packed = bytes(self._records[body : body + offsets])
        return before, SettledBatch(
            start // 2,
            to_datetime(micros),
            unpack_offsets(packed, 0) if packed else None,
            bytes(self._records[body + offsets : body + offsets + text]),
        )
