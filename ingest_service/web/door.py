"""Who may come in, key or not: not the pages of other sites in somebody's browser."""

import ipaddress
import re
from collections.abc import Mapping, Sequence

from werkzeug.datastructures import Headers

from ingest_service.setting_kinds import without_usual_port

#: Methods that ask and change nothing (RFC 9110, 9.2.1).
SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def refusal(
    method: str,
    path: str,
    scheme: str,
    headers: Mapping[str, str] | Headers,
    allowed_hosts: Sequence[str] | None,
    allowed_origins: Sequence[str] = (),
) -> str | None:
    """Return why a request is refused, None if it is not; no `allowed_hosts`: under any name.

    A browser lets any page send forms and the like anywhere; the answer is hidden from
    that page, the effect is not. It says where the page came from in `Origin`. A name
    that its owner points to this machine makes a page look as if it came from here;
    `Host` still says that name.
    """
    host = headers.get("Host", "").lower()
    strange = allowed_hosts is not None and host != "" and not _is_ours(host, allowed_hosts)
    if strange and not f"{path}/".startswith("/health/"):
        return "This Host is none of this machine; the operator can add it to INGEST_ALLOWED_HOSTS."
    if method in SAFE:
        return None
    origin = headers.get("Origin")
    if origin is not None and same_as_written(origin) in allowed_origins:
        return None
    foreign = origin is not None and not _same(origin.lower(), scheme, host)
    if foreign or headers.get("Sec-Fetch-Site", "").lower() == "cross-site":
        return "A page of another origin may not change anything here."
    return None


def same_as_written(origin: str) -> str:
    """Return an origin as the settings have it: in lower case, without the usual port."""
    return without_usual_port(origin.lower())


def _is_ours(host: str, allowed_hosts: Sequence[str]) -> bool:
    name, _ = _split(host)
    if name == "localhost" or name in allowed_hosts:
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _same(origin: str, scheme: str, host: str) -> bool:
    their_scheme, _, place = origin.partition("://")
    standard = _DEFAULT_PORTS.get(scheme, "")
    theirs, ours = _split(place), _split(host)
    return bool(host) and (their_scheme, theirs[0], theirs[1] or standard) == (
        scheme,
        ours[0],
        ours[1] or standard,
    )


def _split(host: str) -> tuple[str, str]:
    """Return name and port of `host`, two empty texts if it is none."""
    match = _HOST.fullmatch(host)
    return (match[1], match[2] or "") if match else ("", "")
