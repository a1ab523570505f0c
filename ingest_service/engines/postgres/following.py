"""Waiting for a change: the database tells of each."""

from collections.abc import Callable

from ingest_service.engines.postgres.database import Database
from ingest_service.engines.postgres.listening import Listening
from ingest_service.engines.postgres.pictures import Pictures


class PostgresFollowing:
    """See `Following`."""

    def __init__(self, database: Database, pictures: Pictures, listening: Listening) -> None:
        self._database = database
        self._pictures = pictures
        self._listening = listening

    def is_at_hand(self, ingestion_id: str | None = None) -> bool:
        """Nothing is: everything is asked of the database."""
        del ingestion_id
        return False

    def watch(
        self, ingestion_id: str, version: int, on_change: Callable[[], None]
    ) -> Callable[[], None]:
        """Listen first, then look: what changes in between is heard or seen."""
        if self._pictures.draining:
            on_change()
            return lambda: None
        end = self._listening.watch(ingestion_id, on_change)
        try:
            with self._database.reading() as tx:
                row = tx.row("version", id=ingestion_id)
        except BaseException:
            end()
            raise
        if row is None or row.version != version or row.finished_at is not None:
            end()
            on_change()
            return lambda: None
        return end
