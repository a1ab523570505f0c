"""The client, while the service dies and comes back again and again."""

import random
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from ingest_service.client import IngestClient, IngestError, Status
from tests.crash.test_kill import (
    Clients,
    assert_nothing_lost_or_doubled,
    assert_sent_once,
    recorded_in_a_file,
)
from tests.crash.waiting import eventually

KILLS = 30
FOLLOWED = 8


@dataclass
class Users(Clients):
    """Threads that submit with the client; the first of their ingestions are followed too."""

    followed: list[list[Status]] = field(default_factory=list)
    followers: list[threading.Thread] = field(default_factory=list)

    def post(self, key: str) -> bool:
        """Submit what belongs to `key`; the client does not give up."""
        url = f"http://127.0.0.1:{self.server.port}"
        client = IngestClient(url, timeout=10, patience=120)
        try:
            ingestion = client.submit(ids=self.posted[key], priority="MEDIUM", key=key)
        except IngestError as error:
            self.unexpected.append(repr(error))
            return False
        self.answers[key].add(ingestion.ingestion_id)
        if len(self.followers) < FOLLOWED:
            statuses: list[Status] = []
            self.followed.append(statuses)
            thread = threading.Thread(target=lambda: statuses.extend(ingestion.follow()))
            self.followers.append(thread)
            thread.start()
        return True


def test_submit_and_follow_survive_thirty_kills(tmp_path: Path) -> None:
    """Nothing is lost, nothing doubled, and every follower sees the end."""
    chance = random.Random(KILLS)  # noqa: S311
    with recorded_in_a_file(tmp_path) as (server, starts):
        users = Users(server)
        try:
            server.start()
            with users.posting():
                for _ in range(KILLS):
                    time.sleep(chance.random())
                    server.kill()
                    server.start()
            server.kill()
            server.environment |= {"INGEST_INTERVAL": "0", "INGEST_MAX_CONCURRENT_BATCHES": "16"}
            server.start()
            eventually(lambda: server.request("GET", "/health").json()["active_requests"] == 0, 60)
            for key in list(users.posted):
                assert users.post(key)
            for thread in users.followers:
                thread.join(30)
            assert server.stop() == 0
        finally:
            server.kill()
        sent = starts()
    assert users.unexpected == []
    assert_nothing_lost_or_doubled(server, users)
    assert_sent_once(users, sent, KILLS + 1)
    assert len(users.followed) == FOLLOWED
    for statuses in users.followed:
        assert statuses[-1].outcome == "succeeded"
        assert all(earlier.progress <= later.progress for earlier, later in pairwise(statuses))
