"""Two API keys and the callers behind them."""

from ingest_service.domain.caller import Caller
from ingest_service.domain.items import Ids
from ingest_service.domain.model import Priority
from tests.support import Api

ANNA = Caller("anna", request_id="anna-1", own_only=True)
BERT = Caller("bert", request_id="bert-1", own_only=True)
#: Sees everything.
OPERATOR = Caller("operator", request_id="operator-1")


def submit(
    api: Api, caller: Caller, count: int = 1, priority: Priority = Priority.LOW, key: str = ""
) -> str:
    """Submit ids as `caller`; return the id of the ingestion."""
    ids = Ids(range(1, count + 1))
    return api.parts.service.submissions.accept(ids, priority, key or None, caller).ingestion_id
