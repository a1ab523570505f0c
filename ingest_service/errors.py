"""Everything this package raises on purpose.

IngestServiceError
 +- SettingsError         a setting is wrong; the service does not start
 +- IngestionNotFound     nobody knows this id
 +- QueueFull             no room for the request now
 +- QuotaFull             no room for more of the same key now
 +- NotPermitted          the key controls only what it has submitted
 +- Conflict              the ingestion is not in a state in which that can be done
 +- IdempotencyMismatch   the key was used for another request
 +- StorageUnavailable    the journal cannot be written now
 +- JournalUnusable       the journal cannot be opened; the service does not start
 |   +- JournalDamaged       something in it is not what was written
 |   +- JournalOutdated      its database has an older schema
 |   +- JournalUnreachable   its database does not answer
 +- Stopping              no work is done any more, so none is taken
"""


class IngestServiceError(Exception):
    """Base of all errors of this package."""

    #: That of a process which ends because of it, as docs/command.md says.
    exit_status = 2


class SettingsError(IngestServiceError):
    """A setting has a value that is not allowed; the message is one line for the operator."""


class IngestionNotFound(IngestServiceError):
    """No ingestion has this id, or it was removed after its retention time."""


class QueueFull(IngestServiceError):
    """The queue has no room for the request.

    `retry_after` is the number of seconds until it will have, at the present pace.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__("The queue is full.")
        self.retry_after = retry_after


class QuotaFull(IngestServiceError):
    """As many items wait as the key may have waiting.

    `retry_after` is the number of seconds until enough of them will have gone, at the present
    pace; None if the request alone has too many.
    """

    def __init__(self, limit: int, retry_after: float | None) -> None:
        super().__init__(f"This key may have {limit} items waiting.")
        self.limit = limit
        self.retry_after = retry_after


class NotPermitted(IngestServiceError):
    """The key controls only what it has submitted, and this is more than that."""


class Conflict(IngestServiceError):
    """The ingestion is not in a state in which that can be done; the message says which."""


class IdempotencyMismatch(IngestServiceError):
    """The idempotency key was used before, for a request with another content."""


class StorageUnavailable(IngestServiceError):
    """The journal cannot be written now; nothing of what was asked has happened."""


class JournalUnusable(IngestServiceError):
    """The journal cannot be opened; the message is one line that says why and what to do."""


class JournalDamaged(JournalUnusable):
    """What is in the journal is not what was written; or it is none."""


class JournalOutdated(JournalUnusable):
    """The database has no schema yet, or that of an older version: `migrate` mends it."""


class JournalUnreachable(JournalUnusable):
    """The database does not answer, or not any more."""

    exit_status = 3


class Stopping(IngestServiceError):
    """No work is done any more, so none is taken; the message says why."""
