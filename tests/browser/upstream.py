"""An external API for these checks: it says what it was told to, however nasty."""

from collections.abc import Sequence
from typing import Any

from ingest_service.domain.items import Kind
from ingest_service.domain.model import Batch, Outcome

#: The first time it is sent this id fails for good; later it succeeds.
WEAK = 13
#: What strangers put into ids, errors, answers and reasons.
HOSTILE = (
    "<svg onload=alert(1)>",
    "\"'></script><script>alert(1)</script>",
    "{{7*7}}{% include 'x' %}",
    "'; DROP TABLE x;--",
    "../../etc",
    "\u202egnp.exe",
    "\u05e9\u05dc\u05d5\u05dd \x1b[31m",
    "W" * 1024,
)

_seen: set[int] = set()


def send(batch: Batch) -> Sequence[Outcome]:
    """Let what is weak fail once, and what is hostile be hostile in every place."""
    return [_outcome(batch.kind, item) for item in batch.items]


def _outcome(kind: Kind, item: Any) -> Outcome:
    if kind is Kind.MAPPINGS:
        text = item["id"]
        if item["source"] == "fail":
            return Outcome(succeeded=False, error=text, status_code=422)
        return Outcome(succeeded=True, processed_data={text: [text, {"deep": text}]})
    if item == WEAK and item not in _seen:
        _seen.add(item)
        return Outcome(succeeded=False, error="It has no such thing.", status_code=404)
    return Outcome(succeeded=True, processed_data={"id": item}, status_code=200)
