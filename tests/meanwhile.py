"""Two things at once, forced: what one thread does in the middle of what another one does."""

import threading
from collections.abc import Callable
from typing import Any

from ingest_service.engines.embedded.journal import Change, Journal
from tests.support import GUARD


class Meanwhile:
    """Calls `act` in another thread, to its end or to where it has to wait for the caller."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self) -> None:
        """Let it begin; return when it has ended, or goes on only after the caller."""
        self._thread.start()
        self._thread.join(0.2)

    def end(self) -> None:
        """Wait until it has ended; raise what it raised."""
        self._thread.join(GUARD)
        assert not self._thread.is_alive(), "what was begun did not end"
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._act()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error


def once_recorded(journal: Journal, kind: type[Change], act: Callable[[], object]) -> None:
    """Call `act` once, when the first change of a kind is durable and not in effect yet."""
    left, record = [act], journal.record

    def recording(*changes: Change) -> None:
        record(*changes)
        if left and any(isinstance(change, kind) for change in changes):
            left.pop()()

    journal.record = recording  # type: ignore[method-assign]


def refuse_records(journal: Journal, kind: type[Change], refusal: Exception) -> Callable[[], None]:
    """Raise `refusal` instead of recording changes of a kind; return what ends that."""
    record, refusing = journal.record, [True]

    def refuse(*changes: Change) -> None:
        if refusing and any(isinstance(change, kind) for change in changes):
            raise refusal
        record(*changes)

    journal.record = refuse  # type: ignore[method-assign]
    return refusing.clear
