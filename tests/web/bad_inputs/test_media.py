"""Bodies that are refused by what they are: their type, their coding, their size."""

import pytest
from flask.testing import FlaskClient

from tests.web.bad_inputs.support import JSON, VALID, post, refused, send


@pytest.mark.parametrize(
    "media_type",
    [
        *("text/plain", "application/xml", "multipart/form-data; boundary=x", "text/html", "x"),
        *("application/x-www-form-urlencoded", "application/jsonx", "application/json,text/html"),
        *(
            f"application/json; charset={name}"
            for name in ("latin-1", "utf-16", "UTF-7", "x", '""')
        ),
    ],
)
def test_another_media_type_is_refused_with_the_header_to_add(
    client: FlaskClient, media_type: str
) -> None:
    answer = client.post("/ingest", data=VALID, content_type=media_type)
    detail = refused(answer, 415, "unsupported-media-type")["detail"]
    assert "-H 'Content-Type: application/json'" in detail


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, identity", "x"])
def test_a_coded_body_is_refused(client: FlaskClient, coding: str) -> None:
    answer = post(client, VALID, **{"Content-Encoding": coding})
    refused(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize("coding", ["", " ", "identity", "IDENTITY"])
def test_a_field_that_names_no_coding_is_no_reason_to_refuse(
    client: FlaskClient, coding: str
) -> None:
    answer = post(client, b"{", **{"Content-Encoding": coding})
    refused(answer, 400, "invalid-json")


class Unread:
    """A body that must not be touched."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{name} of a body that was refused already")


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Content-Encoding": "gzip"}, 415), ({"Content-Type": "text/plain"}, 415), ({}, 413)],
)
def test_a_body_that_is_refused_by_its_headers_is_not_read(
    client: FlaskClient, headers: dict[str, str], status: int
) -> None:
    answer = client.post(
        "/ingest",
        environ_overrides={"wsgi.input": Unread(), "CONTENT_LENGTH": str(2**24 + 2)},
        headers={"Content-Type": JSON} | headers,
    )
    assert answer.status_code == status


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(client: FlaskClient, chunked: bool) -> None:
    """One that comes in chunks has no length; it must not be cut and then read as a whole one."""
    body = VALID.ljust(2**24 + 1)
    problem = refused(send(client, body, chunked), 413, "payload-too-large")
    assert str(2**24) in problem["detail"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_exactly_the_limit_is_read(client: FlaskClient, chunked: bool) -> None:
    body = b'{"ids":[0],"priority":"LOW"}'.ljust(2**24)
    refused(send(client, body, chunked), 400, "validation-error")
