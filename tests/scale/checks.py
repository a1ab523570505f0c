"""What has to be true afterwards, whatever has happened."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import psycopg
from procrastinate import App, PsycopgConnector

from tests.scale.fleet import Posted
from tests.scale.upstream import Arrival

#: How much less than the interval a gap may be at the upstream, in seconds: what one request
#: took longer than the next to get there through the machine's own network.
NETWORK = 0.005


def short_gaps(arrivals: Sequence[Arrival], interval: float) -> list[float]:
    """Return the gaps between batches that are shorter than the interval."""
    times = sorted(arrival.at for arrival in arrivals)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    return [gap for gap in gaps if gap < interval - NETWORK]


def inversions(
    arrivals: Sequence[Arrival], posted: Sequence[Posted], order: dict[str, int], margin: float
) -> list[tuple[Posted, Posted]]:
    """Return who was served before somebody who was there first: (served, waiting).

    Only what was answered `margin` seconds before counts as being there: the slot was taken
    before the batch arrived. What is sent a second time has no place in the order.
    """
    by_number = {one.ids.start // 1_000: one for one in posted}
    first_sent: dict[tuple[int, ...], float] = {}
    for arrival in arrivals:
        first_sent.setdefault(arrival.ids, arrival.at)
    last_sent: dict[str, float] = {}
    for ids, at in first_sent.items():
        one = by_number[ids[0] // 1_000]
        last_sent[one.ingestion_id] = max(at, last_sent.get(one.ingestion_id, 0.0))
    found = []
    for ids, at in first_sent.items():
        served = by_number[ids[0] // 1_000]
        place = served.priority, order[served.ingestion_id]
        for other in posted:
            first = other.answered_at < at - margin
            better = (other.priority, order[other.ingestion_id]) < place
            if first and better and last_sent.get(other.ingestion_id, at) > at:
                found.append((served, other))
    return found


def order_of(address: str) -> dict[str, int]:
    """Return the order of arrival of everything, by id."""
    with psycopg.connect(address) as connection:
        return {str(one): sequence for one, sequence in connection.execute(
            "SELECT id, sequence FROM ingestion")}  # fmt: skip


def unfinished(address: str) -> int:
    """Return how many ingestions are not finished."""
    with psycopg.connect(address) as connection:
        return _value(connection, "SELECT count(*) FROM ingestion WHERE finished_at IS NULL")


def left_over(address: str) -> str:
    """Return what is under way, for who wonders why not everything was finished."""
    with psycopg.connect(address) as connection:
        pace = connection.execute("SELECT pace, clock_timestamp() FROM pace").fetchall()
        starts = connection.execute("SELECT start FROM start WHERE settled_at IS NULL").fetchall()
        return f"not everything was finished: {pace} {starts}"


def assert_clean(address: str) -> None:
    """Look for what must not be left over once everything is finished."""
    with psycopg.connect(address) as connection:
        assert _value(connection, "SELECT count(*) FROM again") == 0
        assert _value(connection, "SELECT count(*) FROM start WHERE settled_at IS NULL") == 0
        assert_depth(connection)
        wrong = "SELECT count(*) FROM ingestion WHERE succeeded + failed + given_up <> total"
        assert _value(connection, wrong) == 0
        lost = """SELECT count(*) FROM batch JOIN outcome USING (sequence, batch)
            GROUP BY sequence, batch HAVING count(*) > 1"""
        assert connection.execute(lost).fetchall() == []
    assert asyncio.run(_jobs(address)) == []


def assert_depth(connection: psycopg.Connection[Any]) -> None:
    """Compare the running sums with the rows."""
    counted = connection.execute("""
        SELECT coalesce(sum(left_) FILTER (WHERE priority = 1), 0)::bigint,
               coalesce(sum(left_) FILTER (WHERE priority = 2), 0)::bigint,
               coalesce(sum(left_) FILTER (WHERE priority = 3), 0)::bigint,
               coalesce(sum(queued), 0)::bigint,
               count(*) FILTER (WHERE left_ > 0),
               count(*) FILTER (WHERE queued > 0),
               count(*) FILTER (WHERE finished_at IS NULL)
        FROM ingestion""").fetchone()
    kept = connection.execute("""
        SELECT batches[1], batches[2], batches[3], items[1] + items[2] + items[3],
               ready[1] + ready[2] + ready[3], ingestions[1] + ingestions[2] + ingestions[3],
               unfinished
        FROM depth""").fetchone()
    assert counted == kept


async def _jobs(address: str) -> list[Any]:
    app = App(connector=PsycopgConnector(conninfo=address))
    async with app.open_async():
        jobs = await app.job_manager.list_jobs_async(queue="ingest")
        return [job for job in jobs if job.task_name == "ingest.carry"]


def _value(connection: psycopg.Connection[Any], query: Any) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])
