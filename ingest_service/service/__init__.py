"""The one door: accept and plan, look, operate; frozen in, frozen out."""

from dataclasses import dataclass

from ingest_service.service.operator import Operator
from ingest_service.service.queries import Queries
from ingest_service.service.submissions import Submissions


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that HTTP, a command line or a test can ask for."""

    submissions: Submissions
    queries: Queries
    operator: Operator
