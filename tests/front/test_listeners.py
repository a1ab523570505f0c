"""Who can reach the server: judged by the sockets it has."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ingest_service.front.listeners import addresses, refusal
from ingest_service.settings import Settings

EVERYWHERE = "0.0.0.0"  # noqa: S104 - nobody waits there for long


@contextmanager
def listening(family: int, address: Any) -> Iterator[socket.socket]:
    """Give a socket that is bound."""
    with socket.socket(family) as bound:
        bound.bind(address)
        yield bound


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_what_only_this_machine_reaches_needs_no_keys(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with listening(family, (host, 0)) as bound:
        assert refusal([bound], Settings()) is None


def test_a_socket_in_the_file_system_needs_no_keys(tmp_path: Path) -> None:
    with listening(socket.AF_UNIX, str(tmp_path / "socket")) as bound:
        assert refusal([bound], Settings()) is None


@pytest.mark.parametrize("host", [EVERYWHERE, "::"])
def test_what_others_reach_is_refused_unless_there_are_keys_or_it_is_meant(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with listening(family, (host, 0)) as bound, listening(socket.AF_INET, ("127.0.0.1", 0)) as own:
        said = refusal([own, bound], Settings())
        assert said is not None
        assert len(said.splitlines()) == 1
        assert said.startswith(f"{host} can be reached")
        assert "keys --file keys.toml new" in said
        assert refusal([bound], Settings(insecure="yes")) is None
        assert refusal([bound], Settings(api_keys_file="keys.toml")) is None


def test_localhost_is_every_loopback_address_there_is() -> None:
    v6 = []
    with suppress(OSError), listening(socket.AF_INET6, ("::1", 0)):
        v6 = ["[::1]:80"]
    assert addresses("localhost", "80") == ["127.0.0.1:80", *v6]


@pytest.mark.parametrize(
    ("host", "bound"), [("10.0.0.7", "10.0.0.7:80"), ("::", "[::]:80"), ("[::1]", "[::1]:80")]
)
def test_another_host_is_what_is_listened_on(host: str, bound: str) -> None:
    assert addresses(host, "80") == [bound]
