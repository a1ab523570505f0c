"""Numbers, times and answers in the form in which people read them."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flask import g
from markupsafe import Markup

from ingest_service.web.responses import timestamp

#: How much of an answer a page shows; the download has all of it.
LONGEST_ANSWER = 2_000
#: Control characters but for line breaks and tabs; what changes the direction of writing; what
#: has no width.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def number(value: int) -> str:
    """Return a whole number, its thousands apart."""
    return f"{value:,}".replace(",", "\u202f")


def count(value: int, noun: str) -> str:
    """Return how many there are of something, as in `1 batch` and `2 batches`."""
    plural = "es" if noun.endswith(("ch", "s")) else "s"
    return f"{number(value)}\u00a0{noun}{'' if value == 1 else plural}"


def span(seconds: float) -> str:
    """Return a duration in its two largest units, as in `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.2g}\u00a0s" if seconds < 9.95 else f"{seconds:.0f}\u00a0s"
    parts: list[str] = []
    left = int(seconds)
    for size, unit in _UNITS:
        if left >= size and len(parts) < 2:
            parts.append(f"{left // size}\u00a0{unit}")
            left %= size
    if len(parts) < 2 and left and seconds < 3_600:
        parts.append(f"{left}\u00a0s")
    return " ".join(parts)


def moment(at: datetime | None, form: str = "clock") -> str:
    """Return an instant in UTC, which scripts turn into local time, an age or a countdown."""
    if at is None:
        return Markup('<span class="dim">unknown</span>')
    utc, now = at.astimezone(UTC), g.now.astimezone(UTC)
    shown = f"{utc:%H:%M:%S}" if utc.date() == now.date() else f"{utc:%Y-%m-%d %H:%M}"
    return Markup('<time datetime="{}" data-form="{}">{} UTC</time>').format(
        timestamp(at), form, shown
    )


def visible(text: str) -> str:
    """Return `text` with signs in place of what would hide, or turn round, what others see."""
    return _UNSEEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def literal(value: Any) -> str:
    """Return what an upstream answered, as it is, but not more than can be looked at."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = visible(text)
    more = len(text) - LONGEST_ANSWER
    if more <= 0:
        return text
    return f"{text[:LONGEST_ANSWER]} … and {number(more)} more characters; the download has them."


FILTERS: tuple[Callable[..., str], ...] = (number, count, span, moment, visible, literal)
