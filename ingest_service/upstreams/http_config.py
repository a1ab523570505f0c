"""What HTTP upstreams need from files: certificates, and headers that may be secrets."""

import re
import ssl
from collections.abc import Mapping

import urllib3

from ingest_service.clock import Clock
from ingest_service.errors import SettingsError
from ingest_service.settings import Settings
from ingest_service.upstreams.connections import bound
from ingest_service.version import VERSION
from ingest_service.watched_file import WatchedFile, read_private

_HEADERS_FILE = "INGEST_UPSTREAM_HEADERS_FILE"
_HEADER = re.compile(
    r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)"
)
#: What frames a request or tells it from others; two of these would contradict each other.
_OURS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "idempotency-key",
        "transfer-encoding",
        "x-ingest-attempt",
    }
)


def check_files(settings: Settings) -> None:
    """Raise `SettingsError` if one of the files cannot be used as it is now."""
    _trust(settings.upstream_ca)
    read_headers(settings.upstream_headers_file)


def connection_pool(settings: Settings, clock: Clock) -> urllib3.PoolManager:
    """Return what keeps connections to the upstream open; it verifies certificates."""
    authorities = settings.upstream_ca
    trust = WatchedFile(clock, authorities, lambda: _trust(authorities))
    batch_size = max(settings.batch_size_ids, settings.batch_size_mappings)
    # Twice what is needed, as `ThreadedUpstream` has threads: some may be lost for a while.
    maxsize = 2 * settings.max_concurrent_batches * batch_size
    context, proxy = trust.current(), settings.upstream_proxy
    if proxy:
        pools: urllib3.PoolManager = urllib3.ProxyManager(
            proxy, maxsize=maxsize, ssl_context=context
        )
    else:
        pools = urllib3.PoolManager(maxsize=maxsize, ssl_context=context)
    return bound(pools, trust.current)


def _trust(path: str | None) -> ssl.SSLContext:
    """Return what trusts the authorities in the file at `path`, or those of the machine."""
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError(f"INGEST_UPSTREAM_CA={path!r} cannot be used: {reason}.") from error


def watched_headers(path: str | None, clock: Clock) -> WatchedFile[dict[str, str]]:
    """Return what goes with every request, with the file at `path`, as it is by now."""
    return WatchedFile(clock, path, lambda: _request_headers(read_headers(path)))


def _request_headers(own: Mapping[str, str]) -> dict[str, str]:
    """Return what goes with every request; `own` overrule, however they are spelt."""
    merged = urllib3.HTTPHeaderDict(
        {
            "User-Agent": f"ingest-service/{VERSION}",
            "Accept": "application/json, */*;q=0.5",
            # What is compressed can grow beyond every limit while it is read.
            "Accept-Encoding": "identity",
        }
    )
    for name, value in own.items():
        merged[name] = value
    # Spelt as `Client.send` spells it: only one may go out.
    return {"Host" if name.lower() == "host" else name: value for name, value in merged.items()}


def read_headers(path: str | None) -> dict[str, str]:
    """Return the headers in the file at `path`; no message repeats a value."""
    if path is None:
        return {}
    headers = {}
    for number, line in enumerate(_private_lines(path), 1):
        if not line.strip():
            continue
        header = _HEADER.fullmatch(line.strip())
        if not header:
            raise _refused(path, f"line {number} must be `Name: value`.")
        name, value = header.groups()
        if name.lower() in _OURS:
            raise _refused(
                path, f"line {number} must not set {name}, which belongs to the service."
            )
        headers[name] = value
    return headers


def _private_lines(path: str) -> list[str]:
    """Return the lines of a file that nobody else may read."""
    try:
        return read_private(f"{_HEADERS_FILE}={path!r}", path).decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise SettingsError(
            f"{_HEADERS_FILE}={path!r} cannot be read: it is not ASCII text."
        ) from None


def _refused(path: str, reason: str) -> SettingsError:
    return SettingsError(f"{_HEADERS_FILE}={path!r}: {reason}")
