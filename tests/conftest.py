"""Fixtures: every test of behaviour runs stepped on its own thread and with the real one."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from freezegun import configure
from hypothesis import Phase
from hypothesis import settings as hypothesis_settings
from werkzeug.routing import Rule

from ingest_service.settings import Settings
from tests.support import ELSEWHERE, Api, serving

# Without this, --durations and hypothesis subtract real time from frozen time.
_REAL_TIME = ["_pytest.timing", "hypothesis", "psycopg", "psycopg_pool"]
# These ask no clock, and each freeze would look at everything in them.
_TIMELESS = [
    "encodings",
    "jsonschema_rs",
    "pygments",
    "referencing",
    "rich",
    "schemathesis",
    "unittest",
]
configure(extend_ignore_list=_REAL_TIME + _TIMELESS)

# The same examples every time: a gate that sometimes fails teaches nobody anything.
hypothesis_settings.register_profile("gate", deadline=None, derandomize=True)
# A mutant that is seen need not be seen in the smallest example.
_UNSHRUNK = [phase for phase in Phase if phase is not Phase.shrink]
hypothesis_settings.register_profile(
    "mutants", hypothesis_settings.get_profile("gate"), phases=_UNSHRUNK
)
hypothesis_settings.load_profile("mutants" if "MUTANT_UNDER_TEST" in os.environ else "gate")

_compile_builder = Rule._compile_builder
_builders: dict[tuple[str, bool], Any] = {}


def _compiled_once(rule: Rule, append_unknown: bool = True) -> Any:
    """Return what makes the URLs of `rule`.

    Compiling it for each test's application was most of what an application costs.
    """
    key = rule.rule, append_unknown
    if key not in _builders:
        _builders[key] = _compile_builder(rule, append_unknown)
    return _builders[key]


Rule._compile_builder = _compiled_once  # type: ignore[assignment,method-assign]


@pytest.fixture
def settings() -> Settings:
    """Return the defaults; a module overrides this fixture to change them."""
    return Settings()


#: How the tests of behaviour run: in this process, and with any number of workers.
_EMBEDDED = ["stepped", "threaded"]
_POSTGRES = {"pg-1": 1, "pg-3": 3}
#: Fixtures that give a service, or what belongs to one.
_SERVED = {"api", "still", "client", "either"}
#: Tests of the engine that needs a server.
_NEED_POSTGRES = Path(__file__).parent / "engines" / "postgres"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Choose the engine: without the option nothing of PostgreSQL is needed, nor imported."""
    parser.addoption("--postgres", action="store_true", help="run what can run on PostgreSQL")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what needs a server."""
    if collection_path == _NEED_POSTGRES and not config.getoption("--postgres"):
        return True
    return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test of behaviour in all the ways there are."""
    if "api" in metafunc.fixturenames:
        on_postgres = metafunc.config.getoption("--postgres")
        metafunc.parametrize("api", [*_POSTGRES] if on_postgres else _EMBEDDED, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With PostgreSQL, run only what has to do with it."""
    if config.getoption("--postgres"):
        items[:] = [
            item
            for item in items
            if _NEED_POSTGRES in item.path.parents
            or (
                _SERVED & set(getattr(item, "fixturenames", ()))
                and not item.get_closest_marker("embedded")
            )
        ]


@pytest.fixture
def api(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Api]:
    """Give a client in frozen time.

    Stepped on the test's thread, with the worker's own, or with workers that step in turn.
    """
    workers = _POSTGRES.get(request.param, 1)
    with serving(settings, threaded=request.param == "threaded", workers=workers) as served:
        yield served


@pytest.fixture(scope="session", autouse=True)
def database(pytestconfig: pytest.Config) -> Iterator[str | None]:
    """Give the address of a database of this process, where tests run on PostgreSQL."""
    if not pytestconfig.getoption("--postgres"):
        yield None
        return
    from tests.postgres import fresh_database, serving_on_postgres

    with fresh_database() as address:
        ELSEWHERE.append(partial(serving_on_postgres, address))
        yield address
