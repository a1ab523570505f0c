"""Times as they are kept: whole microseconds since 1970 in UTC."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(at: datetime) -> int:
    """Return a time as microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def to_datetime(micros: int) -> datetime:
    """Return the time that `to_micros` made `micros` of; raise OverflowError beyond calendars."""
    return _EPOCH + micros * _MICROSECOND


def to_optional_datetime(micros: int | None) -> datetime | None:
    """Return the same, of nothing None."""
    return None if micros is None else to_datetime(micros)
