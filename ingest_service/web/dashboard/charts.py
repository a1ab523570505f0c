"""What was, drawn: shapes for SVG, and the same numbers as a table."""

from datetime import datetime

#: The periods that can be chosen, in seconds.
RANGES = {"1h": 3_600, "24h": 86_400, "7d": 7 * 86_400}


def charts(period: str, now: datetime) -> list[object]:
    """Return the charts of the `period` that ends now."""
    return []
