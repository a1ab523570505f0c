"""One line of JSON an event, so that people and machines can read the same log."""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

_logger = logging.getLogger("ingest_service")


def event(
    name: str,
    *,
    level: int = logging.INFO,
    exc_info: bool | BaseException = False,
    **fields: Any,
) -> None:
    """Log that `name` happened; `fields` say to what, in plain values."""
    _logger.log(level, name, exc_info=exc_info, extra={"fields": fields})


#: Longest pause between two lines about the same trouble, in seconds.
_LONGEST_PAUSE = 60.0


class Trouble:
    """Something that keeps failing: said once, then with growing pauses, then that it healed.

    Used by one thread.
    """

    def __init__(self, name: str, monotonic: Callable[[], float]) -> None:
        self._name = name
        self._monotonic = monotonic
        self._failures = 0
        self._began_at = self._silent_until = 0.0
        self._pause = 1.0

    def occurred(self, reason: str, error: BaseException | None = None) -> None:
        """Log `<name>_failed`, unless that was said a moment ago; with a traceback if `error`."""
        now = self._monotonic()
        if not self._failures:
            self._began_at, self._silent_until, self._pause = now, now, 1.0
        self._failures += 1
        if now < self._silent_until:
            return
        event(
            f"{self._name}_failed",
            level=logging.ERROR,
            exc_info=error or False,
            reason=reason,
            failures=self._failures,
        )
        self._silent_until = now + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def over(self) -> None:
        """Log `<name>_healed` if it was failing until now."""
        if self._failures:
            seconds = round(self._monotonic() - self._began_at, 3)
            event(f"{self._name}_healed", failures=self._failures, seconds=seconds)
            self._failures = 0


class JsonFormatter(logging.Formatter):
    """Renders a record as one line, whatever its fields contain."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a JSON object."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str) -> None:
    """Write events from `level` upwards to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    _logger.handlers = [handler]
    _logger.setLevel(level)
    _logger.propagate = False
