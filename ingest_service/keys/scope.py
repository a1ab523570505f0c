"""What a key may be for."""

from enum import StrEnum


class Scope(StrEnum):
    """What a route asks of a key; a key is granted any of them but `OPEN`, which asks for none."""

    OPEN = "open"
    SUBMIT = "submit"
    READ = "read"
    OPERATE = "operate"
    METRICS = "metrics"
