"""Through a proxy that breaks connections: nothing is lost, nothing is doubled."""

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from ingest_service.client import IngestClient
from tests.client.support import listening
from tests.realtime import GUARD, reset

#: Bytes after which a connection may break, in either direction.
SOON = 600


@contextmanager
def breaking(url: str) -> Iterator[tuple[str, list[int]]]:
    """Give the address of a proxy for `url`, and how many connections it has broken."""
    chance, broken = random.Random(1), []  # noqa: S311
    listener = socket.create_server(("127.0.0.1", 0))
    there = ("127.0.0.1", int(url.rpartition(":")[2]))

    def pass_on(one: socket.socket, other: socket.socket, left: int) -> None:
        with contextlib.suppress(OSError), one:
            while text := one.recv(4096):
                other.sendall(text[:left])
                left -= len(text)
                if left <= 0:
                    broken.append(1)
                    # Whoever reads from the other closes that.
                    reset(one)
                    reset(other)
                    break
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = listener.accept()
                behind = socket.create_connection(there)
                # Half of them break, on the way there or on the way back.
                for one, other in ((here, behind), (behind, here)):
                    left = chance.randint(1, SOON) if chance.random() < 0.3 else 10**9
                    threading.Thread(target=pass_on, args=(one, other, left), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", broken
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(GUARD)
        listener.close()


def test_every_submission_arrives_once_and_is_followed_to_its_end() -> None:
    with listening() as url, breaking(url) as (proxy, broken), IngestClient(url) as direct:
        numbers = count(1)
        ids = {}
        for _ in range(60):
            # A connection of its own each time: that is what breaks.
            with IngestClient(proxy, timeout=5, patience=GUARD * 3) as client:
                items = [next(numbers) for _ in range(5)]
                ingestion = client.submit(ids=items, priority="LOW")
                assert list(ingestion.follow(timeout=GUARD))[-1].outcome == "succeeded"
                ids[ingestion.ingestion_id] = items
        stored = list(direct.ingestions())
        assert {each.ingestion_id for each in stored} == ids.keys()
        assert len(stored) == 60
        for ingestion_id, items in ids.items():
            assert [result.item for result in direct.results(ingestion_id)] == items
    assert len(broken) > 20
