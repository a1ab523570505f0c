"""The protocols of an engine stay small, and whoever uses one gets no more than it needs."""

import inspect
from typing import Any, Protocol

import pytest

from ingest_service import engines
from ingest_service.service.operator import Operator
from ingest_service.service.queries import Queries

MOST = 6

PROTOCOLS = [
    protocol
    for protocol in vars(engines).values()
    if isinstance(protocol, type) and Protocol in protocol.__bases__
]


def _methods(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_has_at_most_six_methods(protocol: type) -> None:
    """More are two subjects, or more."""
    assert 0 < len(_methods(protocol)) <= MOST


@pytest.mark.parametrize("consumer", [Operator, Queries])
def test_who_is_handed_a_protocol_uses_all_of_it(consumer: type) -> None:
    """What nobody there calls belongs into another one."""
    source = inspect.getsource(consumer)
    for name, parameter in inspect.signature(consumer, eval_str=True).parameters.items():
        handed: Any = parameter.annotation
        if handed in PROTOCOLS:
            unused = {m for m in _methods(handed) if f"self._{name}.{m}(" not in source}
            assert not unused, f"{consumer.__name__} is handed {handed.__name__}"
