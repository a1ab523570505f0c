"""One line of JSON an event, so that people and machines can read the same log.

Nothing waits for the log: lines go through a bounded queue to a thread that writes them.
What does not fit is dropped, counted, and said once there is room again.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

_logger = logging.getLogger("ingest_service")

#: Lines that may wait to be written.
MAX_WAITING = 10_000
#: Seconds in which lines are collected, so that they are written together.
TOGETHER = 0.02
_STDERR = 2


class Lines:
    """Writes lines to a file descriptor, on a thread of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._dropped = 0
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Have a line written, or count it as dropped; never wait."""
        if len(self._waiting) >= MAX_WAITING:
            self._dropped += 1
            return
        self._waiting.append(line)
        if not self._wake.is_set():
            self._idle.clear()
            self._wake.set()

    def flush(self, seconds: float = 1.0) -> None:
        """Wait until everything is written, but not for ever: perhaps nobody reads."""
        self._idle.wait(seconds)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(TOGETHER)  # noqa: TID251 - the log lives in real time
            # Before looking: what is appended from now on wakes this thread anew.
            self._wake.clear()
            self._write_waiting()
            if not self._wake.is_set():
                self._idle.set()

    def _write_waiting(self) -> None:
        while self._waiting:
            together = [self._waiting.popleft() for _ in range(min(len(self._waiting), 500))]
            self._write(b"".join(together))
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                said = {"time": _now(), "level": "WARNING", "event": "log_lines_dropped"}
                self._write(orjson.dumps({**said, "lines": dropped}) + b"\n")

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            return  # there is nobody to tell


class _Queued(logging.Handler):
    """Gives records to `Lines`."""

    def __init__(self, lines: Lines, formatter: logging.Formatter | None) -> None:
        super().__init__()
        self._lines = lines
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.put(self.format(record).encode("utf-8", "backslashreplace") + b"\n")

    def flush(self) -> None:
        self._lines.flush()


_lines: Lines | None = None


def event(
    name: str,
    *,
    level: int = logging.INFO,
    exc_info: bool | BaseException = False,
    **fields: Any,
) -> None:
    """Log that `name` happened; `fields` say to what, in plain values."""
    if _lines is None or exc_info:
        _logger.log(level, name, exc_info=exc_info, extra={"fields": fields})
    elif _logger.isEnabledFor(level):
        line = {"time": _now(), "level": logging.getLevelName(level), "event": name, **fields}
        _lines.put(orjson.dumps(line, default=str, option=_OPTIONS))


_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS


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
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure(level: str) -> None:
    """Write events from `level` upwards to standard error."""
    global _lines
    _lines = _lines or Lines(_STDERR)
    _logger.handlers = [_Queued(_lines, JsonFormatter())]
    _logger.setLevel(level)
    _logger.propagate = False


def take_over(name: str) -> None:
    """Let nobody wait for what the logger `name` writes to standard error either."""
    logger = logging.getLogger(name)
    if _lines is None:
        return
    for handler in list(logger.handlers):
        if type(handler) is logging.StreamHandler:
            logger.removeHandler(handler)
            logger.addHandler(_Queued(_lines, handler.formatter))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")  # noqa: TID251 - as records do
