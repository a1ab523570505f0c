"""The client: one object for a service, one for an ingestion."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

from ingest_service.client import following, results
from ingest_service.client.errors import BadAnswer, IngestError
from ingest_service.client.fields import Fields
from ingest_service.client.service_values import Limits, Queue, RateProof
from ingest_service.client.submitting import Items, Part, parts, to_json
from ingest_service.client.transport import Answer, OnRetry, Request, Transport
from ingest_service.client.values import Cancelled, Moved, Plan, Result, Retried, Status, Summary
from ingest_service.clock import Clock, SystemClock

T = TypeVar("T")
DEFAULT_URL = "http://127.0.0.1:8000"
_PAGE = 1_000
_KEY = re.compile(r"[\x21-\x7e]{1,200}")


class IngestClient:
    """A service, as its users see it; every call blocks until it is answered.

    `key` is sent as a bearer token. An answer may take `timeout` seconds. What can be sent
    twice without harm is tried again for `patience` seconds while nobody answers, or the
    service asks to come again; `on_retry` is told why, and in how many seconds. It may be
    used by several threads.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        key: str | None = None,
        timeout: float = 30.0,
        patience: float = 60.0,
        on_retry: OnRetry | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._transport = Transport(
            url,
            key,
            clock or SystemClock(),
            timeout=timeout,
            patience=patience,
            on_retry=on_retry,
        )

    def __enter__(self) -> "IngestClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # An error may have an ingestion with it into another process. The key stays here.
        again = partial(
            IngestClient, timeout=self._transport.timeout, patience=self._transport.patience
        )
        return again, (self.url,)

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._transport.url

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def submit(
        self,
        *,
        ids: Iterable[int] | None = None,
        mappings: Iterable[Mapping[str, Any]] | None = None,
        priority: str,
        key: str | None = None,
    ) -> "Ingestion":
        """Submit ids or mappings as one ingestion; safe to repeat.

        The request has an idempotency key, a new one if none is given, which is kept over
        attempts and is the `key` of an `IngestError`. Raise ValueError for what can never be
        accepted, as more items than one request may have: `submit_parts` takes those.
        """
        bodies = parts(Items.of(ids, mappings), priority, self.limits())
        first = next(bodies, None)
        if first is None:
            raise ValueError("There is nothing to submit.")
        if next(bodies, None) is not None:
            raise ValueError("This is more than one request may have; use submit_parts.")
        return self._submit(first, _usable(key))

    def submit_parts(
        self, items: Items, *, priority: str, key: str | None = None, once: bool = False
    ) -> Iterator["Ingestion"]:
        """Submit any number of items, an ingestion for as many as one request may have.

        Yields each as soon as it is accepted. The parts are cut in the same way every time and
        have keys made from `key`, so that repeating all of it queues nothing twice. With `once`
        the keys come from the content instead.
        """
        key = _usable(key)
        accepted: list[Ingestion] = []
        bodies = parts(items, priority, self.limits())
        while (part := next(bodies, None)) is not None:
            try:
                ingestion = self._submit(
                    part, part.digest() if once else _part_key(key, len(accepted) + 1)
                )
            except IngestError as error:
                error.key, error.accepted = key, tuple(accepted)
                raise
            # Its body is not kept for as long as the caller follows the ingestion.
            del part
            accepted.append(ingestion)
            yield ingestion

    def plan(
        self,
        *,
        ids: Iterable[int] | None = None,
        mappings: Iterable[Mapping[str, Any]] | None = None,
        priority: str,
    ) -> Plan:
        """Return what would become of a request; nothing is stored."""
        bodies = parts(Items.of(ids, mappings), priority, self.limits())
        first = next(bodies, None)
        if first is None or next(bodies, None) is not None:
            raise ValueError("A plan is of one request: at least one item, and not too many.")
        return self.plan_part(first)

    def plan_part(self, part: Part) -> Plan:
        """Return what would become of the request with this body."""
        return Plan.parse(self._ask("POST", "/ingest", {"dry_run": "true"}, part.body))

    def ingestion(self, ingestion_id: str) -> "Ingestion":
        """Return a known ingestion; it is not looked at yet."""
        return Ingestion(self, ingestion_id)

    def status(self, ingestion_id: str) -> Status:
        """Return where an ingestion is."""
        request = following.status_request(_path(ingestion_id))
        return Status.parse(self._transport.send(request).fields())

    def follow(self, ingestion_id: str, timeout: float | None = None) -> Iterator[Status]:
        """Yield the status now and at each visible change, until it is finished.

        Raise `TimedOut` after `timeout` seconds, also if nobody answers.
        """
        return following.follow(self._transport, _path(ingestion_id), timeout)

    def results(self, ingestion_id: str, outcome: str | None = None) -> Iterator[Result]:
        """Yield what became of the items, in their order, as far as it is known.

        Only those with `outcome` succeeded or failed, if that is given.
        """
        with self._results(ingestion_id, "ndjson", outcome) as pieces:
            for line in results.lines(pieces):
                yield results.parse(line)

    def results_text(self, ingestion_id: str, form: str, outcome: str | None) -> Iterator[bytes]:
        """Yield the results as `ndjson` or `csv`, in pieces as they come."""
        with self._results(ingestion_id, form, outcome) as pieces:
            yield from pieces

    def ingestions(
        self,
        *,
        status: str | None = None,
        outcome: str | None = None,
        priority: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Summary]:
        """Yield ingestions, newest first, `limit` at most."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            query = {
                "status": status,
                "outcome": outcome,
                "priority": priority,
                "cursor": cursor,
                "limit": _PAGE if left is None else min(left, _PAGE),
            }
            page = self._ask("GET", "/ingestions", query)
            summaries = page.listed("ingestions", Summary.parse)[:left]
            yield from summaries
            left = None if left is None else left - len(summaries)
            after = page.optional("next_cursor", page.text)
            if after is None or after == cursor:
                return
            cursor = after

    def cancel(self, ingestion_id: str) -> Cancelled:
        """Cancel what has not been started."""
        path = f"/ingestions/{_path(ingestion_id)}/cancel"
        return Cancelled.parse(self._ask("POST", path, repeatable=True))

    def move(self, ingestion_id: str, priority: str, *, dry_run: bool = False) -> Moved:
        """Give what is left another class; with `dry_run` only tell what that would do."""
        return Moved.parse(
            self._ask(
                "PATCH",
                f"/ingestions/{_path(ingestion_id)}",
                {"dry_run": "true" if dry_run else None},
                to_json({"priority": priority}),
            )
        )

    def retry(self, ingestion_id: str) -> Retried:
        """Send what has failed once more."""
        return Retried.parse(self._ask("POST", f"/ingestions/{_path(ingestion_id)}/retry"))

    def queue(self) -> Queue:
        """Return the queue as a whole."""
        return Queue.parse(self._ask("GET", "/queue"))

    def pause(self, reason: str | None = None) -> Queue:
        """Start nothing until `resume`; batches under way end."""
        body = None if reason is None else to_json({"reason": reason})
        return Queue.parse(self._ask("POST", "/queue/pause", body=body, repeatable=True))

    def resume(self) -> Queue:
        """Go on at the pace."""
        return Queue.parse(self._ask("POST", "/queue/resume", repeatable=True))

    def set_interval(self, seconds: float) -> Queue:
        """Change the seconds from one batch start to the next."""
        body = to_json({"interval_seconds": seconds})
        return Queue.parse(self._ask("PATCH", "/queue", body=body, repeatable=True))

    def rate_proof(self, since: datetime | None = None, until: datetime | None = None) -> RateProof:
        """Return what the batch starts of a period show."""
        query = {"from": since and since.isoformat(), "to": until and until.isoformat()}
        return RateProof.parse(self._ask("GET", "/rate-proof", query))

    def limits(self) -> Limits:
        """Return what one request may have."""
        return Limits.parse(self._ask("GET", "/health"))

    def _submit(self, part: Part, key: str) -> "Ingestion":
        request = Request("POST", "/ingest", {}, part.body, {"Idempotency-Key": key})
        try:
            answer: Answer = self._transport.send(request)
            return Ingestion(
                self,
                _accepted_id(answer),
                items=part.items,
                key=key,
                replayed=answer.headers.get("Idempotency-Replayed") == "true",
                document=answer.fields().document,
            )
        except IngestError as error:
            error.key = key
            raise

    def _results(self, ingestion_id: str, form: str, outcome: str | None) -> Any:
        request = results.results_request(_path(ingestion_id), form, outcome)
        return self._transport.stream(request)

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        *,
        repeatable: bool | None = None,
    ) -> Fields:
        if repeatable is None:
            # A dry run changes nothing, whatever its method.
            repeatable = method == "GET" or bool(query and query.get("dry_run"))
        request = Request(method, path, query or {}, body, repeatable=repeatable)
        return self._transport.send(request).fields()


@dataclass(frozen=True, slots=True)
class Ingestion:
    """An ingestion on its service."""

    _client: IngestClient = field(repr=False, compare=False)
    ingestion_id: str
    #: How many items were submitted, 0 if it was not submitted here.
    items: int = 0
    #: The idempotency key it was submitted under.
    key: str | None = None
    #: Whether it had been accepted before, so that nothing new was queued.
    replayed: bool = False
    #: What the submission was answered.
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def status(self) -> Status:
        """Return where it is."""
        return self._client.status(self.ingestion_id)

    def follow(self, timeout: float | None = None) -> Iterator[Status]:
        """Yield the status now and at each visible change, until it is finished."""
        return self._client.follow(self.ingestion_id, timeout)

    def wait(
        self, timeout: float | None = None, on_change: Callable[[Status], Any] = lambda _: None
    ) -> Status:
        """Return the status when it is finished; raise `TimedOut` after `timeout` seconds."""
        return following.last(self.follow(timeout), on_change)

    def results(self, outcome: str | None = None) -> Iterator[Result]:
        """Yield what became of the items, in their order, as far as it is known."""
        return self._client.results(self.ingestion_id, outcome)

    def cancel(self) -> Cancelled:
        """Cancel what has not been started."""
        return self._client.cancel(self.ingestion_id)

    def move(self, priority: str, *, dry_run: bool = False) -> Moved:
        """Give what is left another class; with `dry_run` only tell what that would do."""
        return self._client.move(self.ingestion_id, priority, dry_run=dry_run)

    def retry(self) -> Retried:
        """Send what has failed once more."""
        return self._client.retry(self.ingestion_id)


def _accepted_id(answer: Answer) -> str:
    fields = answer.fields()
    for name in ("ingestion_id", "request_id"):
        if name in fields.document:
            return fields.text(name)
    raise BadAnswer("The answer to the submission has no id.")


def _usable(key: str | None) -> str:
    if key is None:
        return os.urandom(16).hex()
    if not _KEY.fullmatch(key):
        raise ValueError("An idempotency key has from 1 to 200 visible ASCII characters.")
    return key


def _part_key(key: str, number: int) -> str:
    return key if number == 1 else f"{key}-{number}"


def _path(ingestion_id: str) -> str:
    """Return an id as one step of a path, whatever it is; raise ValueError if it is no text."""
    try:
        return quote(ingestion_id, safe="")
    except UnicodeError as error:
        raise ValueError(f"{ingestion_id!r} is no id: it is no text.") from error
