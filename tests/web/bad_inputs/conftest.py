"""Fixtures of these tests."""

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from ingest_service.settings import Settings
from tests.support import serving
from tests.web.bad_inputs.support import stored


@pytest.fixture(scope="module")
def client() -> Iterator[FlaskClient]:
    """Give a client whose service takes bodies up to 16 MiB; nothing bad changes it."""
    with serving(Settings(max_body=2**24), threaded=False) as served:
        yield served.client


@pytest.fixture(autouse=True)
def nothing_is_stored(client: FlaskClient) -> Iterator[None]:
    """Compare what is stored before and after every test."""
    before = stored(client)
    yield
    assert stored(client) == before
