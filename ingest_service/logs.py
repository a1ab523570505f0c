"""One line of JSON an event, so that people and machines can read the same log."""

import json
import logging
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
