"""What every engine is told, and what is the same for all of them."""

from dataclasses import dataclass
from datetime import timedelta

from ingest_service.domain.policy import Rule
from ingest_service.domain.retry_policy import RetryPolicy

#: How long an idempotency key is remembered.
KEY_LIFETIME = timedelta(hours=24)
#: A batch that was started so often and never ended is not started again.
MAX_CRASHES = 3


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the engine is told; times in seconds."""

    rule: Rule
    retry_policy: RetryPolicy
    retention: timedelta
    max_concurrent: int
    max_queued_items: int
    #: How many ingestions may wait.
    max_ingestions: int
    #: What the settings say; an operator may have set another one.
    interval: float
