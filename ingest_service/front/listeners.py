"""Where the server listens, and who can reach it there."""

import errno
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


def check(
    where: Iterable[object],
    settings: Settings,
    environ: Mapping[str, str],
    *,
    shared: bool = False,
) -> None:
    """Raise `SettingsError` if one of the addresses (host, port) cannot, or must not, be used.

    gunicorn would try for five seconds. `shared` ones may be others' as well. What is
    inherited is open already.
    """
    if "GUNICORN_FD" in environ or systemd.listen_fds(unset_environment=False):
        return
    for address in where:
        if isinstance(address, tuple):
            _check(address[0], address[1], settings, shared=shared)


def _check(host: str, number: int, settings: Settings, *, shared: bool) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As gunicorn does: what has ended a moment ago is in nobody's way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            reason = error.strerror
            if error.errno == errno.EADDRINUSE:
                reason = "another program listens there. Choose another port with PORT"
            raise SettingsError(f"{host}:{number} cannot be used: {reason}.") from None
        check_reach([probe], settings)


def check_reach(sockets: Iterable[socket.socket], settings: Settings) -> None:
    """Raise `SettingsError` if others than this machine reach one of them, without keys."""
    said = refusal(sockets, settings)
    if said is not None:
        raise SettingsError(said)


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
