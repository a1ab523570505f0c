"""What is refused by its head alone: at once, with the head of every answer, and how it ends."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from ingest_service.app import create_app
from ingest_service.settings import Settings
from tests.front.shells import Client, run
from tests.keys.support import secret, table, write

_AS_SMALL, _AS_ONCE = ((b"authorization", f"Bearer {secret(number)}".encode()) for number in (1, 2))


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/queue", [], 401),
        ("GET", "/queue", [_AS_SMALL], 403),
        ("GET", "/queue", [_AS_ONCE], 429),
        ("POST", "/ingest", [(b"origin", b"http://evil.example")], 403),
        ("POST", "/ingest", [_AS_SMALL, (b"content-type", b"text/plain")], 415),
        ("GET", "/health", [(b"content-length", b"9" * 19)], 413),
    ],
)
def test_what_is_refused_at_the_door_has_the_head_of_every_answer(
    tmp_path: Path, method: str, path: str, headers: Any, status: int
) -> None:
    """Whoever asks what happened can name the request."""
    keys = write(
        tmp_path / "keys.toml",
        table("small", secret(1), scopes='["submit"]'),
        table("once", secret(2), "requests_per_minute = 1"),
    )
    app = create_app(Settings(interval=3_600, settle=3_600, api_keys_file=keys))

    async def ask(client: Client) -> list[tuple[int, dict[str, str], bytes]]:
        named = [*headers, (b"x-request-id", b"mine")]
        return [await client.ask(method, path, headers=named) for _ in range(2)]

    refused, fields, _ = run(app, ask)[-1]
    assert refused == status
    assert fields["x-request-id"] == "mine"
    assert (fields["x-content-type-options"], fields["cache-control"]) == ("nosniff", "no-store")


@pytest.mark.parametrize(
    ("headers", "status"),
    [([(b"content-encoding", b"gzip")], 415), ([(b"origin", b"http://evil.example")], 403)],
)
def test_what_is_refused_at_the_door_is_answered_before_its_body_is_there(
    app: Flask, headers: Any, status: int
) -> None:
    """The rest is still awaited: after it the connection is as good as before."""

    async def ask(client: Client) -> int:
        length = (b"content-length", b"5000")
        asked = asyncio.ensure_future(client.ask("POST", "/ingest", headers=[length, *headers]))
        await client.answered.wait()
        await asyncio.sleep(0)
        assert not asked.done()
        client.hung_up.set()
        return (await asked)[0]

    assert run(app, ask) == status


@pytest.mark.parametrize(("length", "closing"), [(b"1001", True), (b"1000", False)])
def test_a_body_that_will_not_be_read_is_the_last_of_its_connection(
    length: bytes, closing: bool
) -> None:
    """However small the limit is; so a client that keeps connections begins another one."""
    small = create_app(Settings(interval=3_600, settle=3_600, max_body=1_000))

    async def ask(client: Client) -> dict[str, str]:
        client.hung_up.set()
        refused = [(b"content-length", length), (b"content-type", b"text/plain")]
        return (await client.ask("POST", "/ingest", headers=refused))[1]

    assert (run(small, ask).get("connection") == "close") is closing
