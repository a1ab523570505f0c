"""What it costs to refuse somebody, beside what it costs to accept a submission."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks._load import load, request_bytes
from benchmarks._measure import Row, Table, seconds
from benchmarks._server import serving
from ingest_service.keys import editing
from ingest_service.keys.key import Key, digest_of, fresh_key
from ingest_service.keys.scope import Scope

CLIENTS = 16
REQUESTS = 4_000
ROUNDS = 5
_BODY = b'{"ids":[1,2,3,4,5],"priority":"MEDIUM"}'
#: Keys in the file beside those that are used.
_OTHERS = 100


def tables() -> Iterator[Table]:
    """Take turns, so that whatever slows the machine slows all of them."""
    submit, read, once = fresh_key(), fresh_key(), fresh_key()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = str(folder / "keys.toml")
        editing.add(keys, _key("submit", submit, Scope.SUBMIT))
        editing.add(keys, _key("read", read, Scope.READ))
        editing.add(keys, _key("once", once, Scope.SUBMIT, requests_per_minute=1))
        for number in range(_OTHERS):
            editing.add(keys, _key(f"other-{number}", fresh_key(), Scope.READ))
        requests = {
            "accepted": (submit, b"200"),
            "a key that nobody knows": (fresh_key(), b"401"),
            "a key without the scope": (read, b"403"),
            "a key that asks too often": (once, b"429"),
        }
        settings: dict[str, object] = {
            "interval": 86_400,
            "settle": 86_400,
            "journal": folder / "journal.sqlite3",
            "api_keys_file": keys,
        }
        with serving(folder, settings) as server:
            # The one request that it may.
            load(server.port, lambda: _post(once), 1, 1)
            took: dict[str, list[float]] = {what: [] for what in requests}
            for turn in range(ROUNDS + 1):
                for what, (key, status) in requests.items():
                    began = _cpu(server.pid)
                    load(server.port, lambda key=key: _post(key), CLIENTS, REQUESTS, status)  # type: ignore[misc]
                    if turn:  # the first one warms up
                        took[what].append((_cpu(server.pid) - began) / REQUESTS)
    accepted = median(took.pop("accepted"))
    yield Table(
        "Processor time of a refused POST of 5 ids, with keys",
        seconds,
        [
            Row(what, median(each), "an accepted one", accepted, limit=0.3)
            for what, each in took.items()
        ],
    )


def _key(name: str, secret: str, scope: Scope, requests_per_minute: int | None = None) -> Key:
    return Key(
        name=name,
        digest=digest_of(secret),
        scopes=frozenset({scope}),
        requests_per_minute=requests_per_minute,
    )


def _post(key: str) -> bytes:
    return request_bytes("POST", "/ingest", _BODY, f"Authorization: Bearer {key}\r\n")


def _cpu(pid: int) -> float:
    """Return the seconds of processor time a process has had; asks Linux."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
