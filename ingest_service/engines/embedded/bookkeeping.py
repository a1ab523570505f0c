"""What is recorded besides the queue."""

import secrets
from dataclasses import replace
from typing import Any

from ingest_service.domain.caller import Caller
from ingest_service.engines.audit import MarkKind
from ingest_service.engines.embedded.core import Core
from ingest_service.engines.embedded.journal import OperatorChanged


class EmbeddedBookkeeping:
    """See `Bookkeeping`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def note(self, kind: MarkKind, before: Any, after: Any, caller: Caller) -> None:
        """Record a mark, with nothing beside it."""
        self._core.journal.record(self._core.mark(kind, caller, None, before, after))

    def session_secret(self) -> bytes:
        """Make it durable before anybody uses it."""
        core = self._core
        with core.changes:
            operator = core.state.operator
            if operator.session_secret is None:
                operator = replace(operator, session_secret=secrets.token_hex(32))
                core.journal.record(OperatorChanged(operator))
                with core.lock:
                    core.set_operator(operator)
        return bytes.fromhex(operator.session_secret or "")
