"""A stream of results that cannot be finished breaks off: a part never looks like the whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.raw import Raw
from tests.crash.server import Server, well_behaved
from tests.crash.waiting import eventually

_IDS = 100_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Give a server that is as fast as it gets."""
    quick: dict[str, Any] = {
        "interval": 0,
        "settle": 0,
        "simulated_latency": 0,
        "batch_size_ids": 10_000,
    }
    server = Server(tmp_path / "journal", tmp_path / "log", **quick)
    with well_behaved(server):
        yield server


@pytest.mark.parametrize("form", ["csv", "ndjson"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_stream_of_what_is_deleted_meanwhile_breaks_off(
    server: Server, form: str, version: str
) -> None:
    """Also where the end of a body is that of the connection; the log says it once."""
    body = {"ids": list(range(1, _IDS + 1)), "priority": "LOW"}
    path = f"/status/{server.request('POST', '/ingest', body).json()['ingestion_id']}"
    eventually(lambda: server.request("GET", f"{path}?limit=1").json()["outcome"])

    with Raw(server.port, receive_buffer=4_096) as client:
        request = f"GET {path}/results?format={form} HTTP/{version}\r\nHost: localhost\r\n\r\n"
        client.send(request.encode())
        assert client.socket.recv(100)
        deleted = server.request("DELETE", path.replace("status", "ingestions"))
        assert deleted.status == 200
        with pytest.raises(ConnectionResetError):
            _read_all(client)
    eventually(lambda: server.logged().count("answer_cut_off") == 1)


def _read_all(client: Raw) -> None:
    while client.socket.recv(65_536):
        pass
