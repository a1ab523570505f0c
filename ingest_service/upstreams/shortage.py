"""What this machine can lack, which is neither the upstream's fault nor the item's."""

import errno
import socket

from ingest_service.domain.model import Outcome

_NO_DESCRIPTOR = "No file descriptor is left (see `ulimit -n`), so nothing can be sent."
_NO_THREAD = "The machine cannot start another thread, so nothing can be sent."
#: How far back the causes of an error are looked at.
_DEPTH = 10


def shortage(error: BaseException) -> str | None:
    """Return what the machine lacked when `error` was raised, as a sentence; None if nothing."""
    cause: BaseException | None = error
    for _ in range(_DEPTH):
        if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
            return _NO_DESCRIPTOR
        if isinstance(cause, RuntimeError) and "can't start new thread" in str(cause):
            return _NO_THREAD
        if cause is not None:
            cause = cause.__cause__ or cause.__context__
    return None


def descriptor_error() -> OSError | None:
    """Return why no socket can be opened now: a look-up that fails does not tell."""
    try:
        socket.socket().close()
    except OSError as error:
        return error
    return None


def unsent(reason: str) -> Outcome:
    """Return the outcome of an item that could not be sent; that costs no attempt."""
    return Outcome(succeeded=False, error=reason, transient=True, unreachable=True, unsent=True)
