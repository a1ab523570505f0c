"""Who did what, in memory: marks and submissions, in the order in which they are shown."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from datetime import datetime
from itertools import count, islice
from operator import itemgetter

from ingest_service.domain.ingestion import Submission
from ingest_service.engines.audit import Action, AuditEntry, AuditPlace, AuditQuery, Mark
from ingest_service.engines.micros import to_micros

_place = itemgetter(0)


class AuditLog:
    """Entries by their places; its owner has a lock."""

    def __init__(self) -> None:
        self._entries: list[AuditEntry] = []
        self._numbers = count(1)

    def submitted(self, submission: Submission) -> None:
        """Note who has submitted something."""
        self._add(
            AuditEntry(
                AuditPlace(to_micros(submission.created_at), 0, submission.sequence),
                submission.created_at,
                submission.submitted_by,
                Action.SUBMIT,
                submission.ingestion_id,
                None,
                {"kind": submission.kind.value, "items": len(submission.items)},
                submission.request_id,
            )
        )

    def marked(self, mark: Mark) -> None:
        """Note who has done something, if that was somebody."""
        if mark.kind.value in list(Action):
            self._add(
                AuditEntry(
                    AuditPlace(to_micros(mark.at), 1, next(self._numbers)),
                    mark.at,
                    mark.key,
                    Action(mark.kind.value),
                    mark.target,
                    mark.before,
                    mark.after,
                    mark.request_id,
                )
            )

    def newest(self, query: AuditQuery) -> list[AuditEntry]:
        """Return the newest entries that `query` describes."""
        return list(islice(self._matching(query), query.limit))

    def forget(self, before: datetime) -> None:
        """Forget what was done before."""
        end = bisect_left(self._entries, AuditPlace(to_micros(before), 0, 0), key=_place)
        del self._entries[:end]

    def _add(self, entry: AuditEntry) -> None:
        # Times hardly ever run backwards, so this is nearly always the end.
        insort(self._entries, entry, key=_place)

    def _matching(self, query: AuditQuery) -> Iterator[AuditEntry]:
        end = bisect_left(self._entries, query.before, key=_place)
        for at in range(end - 1, -1, -1):
            entry = self._entries[at]
            if entry.at < query.since:
                return
            key_fits = query.key in (None, entry.key)
            if entry.at < query.until and key_fits and entry.action in query.actions:
                yield entry
