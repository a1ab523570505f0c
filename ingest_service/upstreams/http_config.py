"""What HTTP upstreams need from files: certificates, and headers that may be secrets."""

import re
import ssl
from pathlib import Path

import urllib3

from ingest_service.errors import SettingsError
from ingest_service.settings import Settings
from ingest_service.upstreams.connections import bound

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


def connection_pool(settings: Settings) -> urllib3.PoolManager:
    """Return what keeps connections to the upstream open; it verifies certificates."""
    try:
        context = ssl.create_default_context(cafile=settings.upstream_ca)
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError(
            f"INGEST_UPSTREAM_CA={settings.upstream_ca!r} cannot be used: {reason}."
        ) from error
    batch_size = max(settings.batch_size_ids, settings.batch_size_mappings)
    # Twice what is needed, as `ThreadedUpstream` has threads: some may be lost for a while.
    maxsize = 2 * settings.max_concurrent_batches * batch_size
    if settings.upstream_proxy:
        return bound(
            urllib3.ProxyManager(settings.upstream_proxy, maxsize=maxsize, ssl_context=context)
        )
    return bound(urllib3.PoolManager(maxsize=maxsize, ssl_context=context))


def read_headers(path: str | None) -> dict[str, str]:
    """Return the headers in the file at `path`; no message repeats a value."""
    if path is None:
        return {}
    try:
        lines = Path(path).read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not ASCII text"
        raise SettingsError(
            f"INGEST_UPSTREAM_HEADERS_FILE={path!r} cannot be read: {reason}."
        ) from error
    headers = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = _HEADER.fullmatch(line.strip())
        if not found:
            raise SettingsError(
                f"INGEST_UPSTREAM_HEADERS_FILE={path!r}: line {number} must be `Name: value`."
            )
        if found[1].lower() in _OURS:
            raise SettingsError(
                f"INGEST_UPSTREAM_HEADERS_FILE={path!r}: line {number} must not set "
                f"{found[1]}, which belongs to the service."
            )
        headers[found[1]] = found[2]
    return headers
