"""Who asks, as far as the queue cares."""

from typing import NamedTuple


class Caller(NamedTuple):
    """The key behind a request, and what the queue grants it; without keys, anybody."""

    #: Name of the API key, None where there are none.
    key: str | None = None
    #: What the request is called in logs and in the record of changes.
    request_id: str | None = None
    #: Whether only what the same key has submitted exists for it.
    own_only: bool = False
    #: How many items it may have waiting, None for any number.
    max_queued_items: int | None = None

    def sees(self, submitted_by: str | None) -> bool:
        """Tell whether what was submitted with the key of this name exists for it."""
        return not self.own_only or submitted_by == self.key


#: Whoever asks where nobody needs a key.
ANYBODY = Caller()
