"""Certificates for upstreams over TLS."""

import ssl
from pathlib import Path

import pytest

from tests.realtime import self_signed


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """Return the certificate of the upstream."""
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """Return somebody else's certificate, for the same address."""
    return self_signed(tmp_path_factory.mktemp("tls"))
