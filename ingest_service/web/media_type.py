"""What a body says it is."""

from collections.abc import Mapping
from typing import Any

from werkzeug.http import parse_options_header

#: Set in the environment of a request whose head was let in already, and whose body was read.
ADMITTED = "ingest.admitted"

_NOT_JSON = (
    "The body must be JSON in UTF-8: add the header `Content-Type: application/json` "
    "(for curl: `-H 'Content-Type: application/json'`)."
)


def reason_not_json(environ: Mapping[str, Any]) -> str | None:
    """Return why the body of a request cannot be JSON as it is read here, None if it can."""
    # An empty field names none.
    if environ.get("HTTP_CONTENT_ENCODING", "").strip().lower() not in ("", "identity"):
        return "The body has a Content-Encoding; send it without."
    content_type = environ.get("CONTENT_TYPE", "").strip()
    if content_type in ("", "application/json"):
        return None
    media_type, options = parse_options_header(content_type)
    charset = options.get("charset", "utf-8").lower()
    if media_type.lower() == "application/json" and charset in ("utf-8", "utf8"):
        return None
    return _NOT_JSON
