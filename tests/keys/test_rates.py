"""How often a key may ask, whatever the clock does."""

import threading

from freezegun import freeze_time

from ingest_service.keys.key import Key, digest_of
from ingest_service.keys.rates import Rates
from ingest_service.keys.scope import Scope
from tests.keys.support import secret
from tests.support import EPOCH, FrozenClock

KEY = Key(
    name="a",
    digest=digest_of(secret()),
    scopes=frozenset((Scope.READ,)),
    requests_per_minute=2,
)


def allowed(rates: Rates) -> bool:
    """Ask once."""
    rate = rates.count(KEY)
    assert rate is not None
    return rate.allowed


def test_a_clock_that_is_set_back_keeps_nobody_out() -> None:
    with freeze_time(EPOCH) as frozen:
        rates = Rates(FrozenClock())
        assert [allowed(rates) for _ in range(3)] == [True, True, False]
        frozen.tick(-3_600)
        assert [allowed(rates) for _ in range(3)] == [True, True, False]


def test_a_minute_is_a_minute_of_the_services_clock() -> None:
    with freeze_time(EPOCH) as frozen:
        rates = Rates(FrozenClock())
        assert [allowed(rates) for _ in range(3)] == [True, True, False]
        # A library's thread that forgets by the system's clock would forget now.
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join()
        assert not allowed(rates)
        frozen.tick(59.9)
        assert not allowed(rates)
        frozen.tick(0.2)
        assert allowed(rates)
