"""Where the server listens, and who can reach it there."""

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping

from gunicorn import systemd

from ingest_service.errors import SettingsError
from ingest_service.settings import Settings

_LOOPBACK = ("127.0.0.1", "::1")


def port(environ: Mapping[str, str]) -> str:
    """Return the port that `PORT` names; raise `SettingsError` if it is none."""
    text = environ.get("PORT", "8000")
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65_535:
        raise SettingsError(
            f"PORT={text[:80]!r} is not allowed: it must be a whole number from 0 to 65535."
        )
    return text


def addresses(host: str, port: str) -> list[str]:
    """Return what to bind for `host`: some clients try `localhost` as ::1 first, and give up there.

    Of the loopback addresses only those that this machine has.
    """
    if host != "localhost":
        bare = host.strip("[]")
        return [f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"]
    v4, v6 = _LOOPBACK
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind((v6, 0))
    except OSError:
        return [f"{v4}:{port}"]
    return [f"{v4}:{port}", f"[{v6}]:{port}"]


def inherited() -> list[str]:
    """Return the addresses that a supervisor listens on for this process: socket activation."""
    handed_over = range(
        systemd.SD_LISTEN_FDS_START,
        systemd.SD_LISTEN_FDS_START + systemd.listen_fds(unset_environment=False),
    )
    return [_address_of(descriptor) for descriptor in handed_over]


def _address_of(descriptor: int) -> str:
    # Of a copy: whoever serves takes over the descriptor itself.
    with socket.fromfd(descriptor, socket.AF_UNIX, socket.SOCK_STREAM) as copy:
        name = copy.getsockname()
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return f"unix:{name}"


def refusal(sockets: Iterable[socket.socket], settings: Settings) -> str | None:
    """Return why the server may not start, None if it may.

    Without keys, everybody who can reach one of `sockets` may do everything.
    """
    if settings.api_keys_file is not None or settings.insecure == "yes":
        return None
    reachable = [each for each in sockets if not _is_private(each)]
    if not reachable:
        return None
    where = ", ".join(str(each.getsockname()[0]) for each in reachable)
    return (
        f"{where} can be reached from other machines, and nobody would need a key. Make one with "
        "`python -m ingest_service keys --file keys.toml new NAME --scope submit --scope read` "
        "and set INGEST_API_KEYS_FILE=keys.toml; or set INGEST_INSECURE=yes if all who reach it "
        "may do everything."
    )


def _is_private(listener: socket.socket) -> bool:
    """Tell whether only this machine can reach it."""
    if listener.family == socket.AF_UNIX:
        return True
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    # A scope may follow: fe80::1%eth0.
    address = ipaddress.ip_address(str(listener.getsockname()[0]).partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
