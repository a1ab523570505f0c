"""The outcomes that the answer to a batch lists, and whose they are."""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ingest_service.domain.items import Kind
from ingest_service.domain.model import Batch, Outcome
from ingest_service.upstreams.answer import Unreadable
from ingest_service.upstreams.http_answers import may_pass

#: What an entry can call its item, in order of preference.
_KEYS = {Kind.IDS: ("id",), Kind.MAPPINGS: ("mapping_id", "id")}


def listed_outcomes(batch: Batch, whole: Outcome) -> Sequence[Outcome]:
    """Return the outcomes of the items of `batch`, whose answer was `whole`.

    An answer that lists nothing says the same for all items.
    """
    size = len(batch.items)
    entries = whole.processed_data
    if isinstance(entries, dict) and "results" in entries:
        entries = entries["results"]
    if not whole.succeeded or not isinstance(entries, list):
        return [whole] * size
    failed = replace(whole, succeeded=False, processed_data=None)
    try:
        matched = _matched(batch, entries)
    except Unreadable as error:
        # Perhaps somebody else's answer: the next one may be the right one.
        return [replace(failed, error=str(error), transient=True)] * size
    if len(matched) != size:
        reason = f"The upstream listed {len(matched)} outcomes for {size} items."
        return [replace(failed, error=reason)] * size
    return [_outcome(entry, whole.status_code) for entry in matched]


def _matched(batch: Batch, entries: list[Any]) -> list[Any]:
    """Return the entries in the order of the items; by what they call them, if they do."""
    if _is_in_order(batch, entries):
        return entries
    names = [_name_in(entry, batch.kind) for entry in entries]
    if all(name is None for name in names):
        return entries
    by_name: defaultdict[str, deque[Any]] = defaultdict(deque)
    for name, entry in zip(names, entries, strict=True):
        if name is None:
            raise Unreadable("The upstream listed outcomes with an id and some without.")
        by_name[name].append(entry)
    # An item can be twice in a batch, and then is twice in the answer.
    matched = [_next_of(by_name, _name_of(item, batch.kind)) for item in batch.items]
    if len(matched) != len(entries):
        raise Unreadable("The upstream listed an outcome twice, or one of an unknown item.")
    return matched


def _is_in_order(batch: Batch, entries: list[Any]) -> bool:
    """Tell whether every entry names the item at its place, as nearly all answers do."""
    key = _KEYS[batch.kind][0]
    try:
        names = [entry[key] for entry in entries]
    except (KeyError, TypeError, IndexError):
        return False
    if batch.kind is Kind.IDS:
        # True and 1.0 are equal to 1, and name another item.
        return names == list(batch.items) and set(map(type, names)) == {int}
    return names == [item["id"] for item in batch.items]


def _next_of(by_name: dict[str, deque[Any]], name: str) -> Any:
    if not by_name.get(name):
        raise Unreadable(f"The upstream listed no outcome for item {name[:100]!r}.")
    return by_name[name].popleft()


def _name_of(item: Any, kind: Kind) -> str:
    return str(item if kind is Kind.IDS else item["id"])


def _name_in(entry: Any, kind: Kind) -> str | None:
    """Return what an entry calls its item, None if it does not."""
    if not isinstance(entry, dict):
        return None
    values = (entry[key] for key in _KEYS[kind] if entry.get(key) is not None)
    value = next(values, None)
    if value is None:
        return None
    # What is neither a number nor a string names no item of ours, but it names one.
    return str(value) if type(value) in (int, str) else repr(value)


def _outcome(entry: Any, status_code: int | None) -> Outcome:
    """Return the outcome that one entry of a batch's answer describes.

    An object with `"status": "failed"`, or with an `"error"` that is not empty, has failed;
    `"status_code"` in it is classified as if it were the status of an answer. Anything else is the
    item's processed_data.
    """
    if not isinstance(entry, dict):
        return Outcome(succeeded=True, processed_data=entry, status_code=status_code)
    if entry.get("status") not in ("failed", "error") and not entry.get("error"):
        data = entry.get("processed_data", entry)
        return Outcome(succeeded=True, processed_data=data, status_code=status_code)
    own = entry.get("status_code")
    code = own if type(own) is int and 100 <= own < 600 else status_code
    return Outcome(
        succeeded=False,
        error=entry.get("error") or "The upstream failed this item.",
        status_code=code,
        transient=code is not None and may_pass(code),
    )
