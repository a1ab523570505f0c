"""A database that says nothing keeps those waiting who ask for it, and nobody else."""

import threading

from tests.scale.fleet import Fleet, get, post
from tests.scale.proxy import Proxy

BODY, HEADERS = '{"ids": [1], "priority": "LOW"}', {"Content-Type": "application/json"}
#: More than a replica has threads for requests.
POSTING = 12


def test_a_replica_tells_that_it_lives_while_its_database_is_silent(
    fleet: Fleet, proxy: Proxy
) -> None:
    fleet.add_replica()
    fleet.await_replicas()
    port = fleet.ports[0]
    assert post(port, BODY, HEADERS)
    proxy.dark = True
    posting = [threading.Thread(target=post, args=(port, BODY, HEADERS)) for _ in range(POSTING)]
    for each in posting:
        each.start()
    try:
        for _ in range(3):
            assert get(port, "/health/live") == {"status": "live"}
        assert all(each.is_alive() for each in posting)
    finally:
        proxy.dark = False
        for each in posting:
            each.join(60)
    assert post(port, BODY, HEADERS)
