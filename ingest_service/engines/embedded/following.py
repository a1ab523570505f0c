"""Waiting for a change: whom to call is kept in memory, under the lock."""

from collections.abc import Callable

from ingest_service.engines.embedded.core import Core


class EmbeddedFollowing:
    """See `Following`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def is_at_hand(self, ingestion_id: str | None = None) -> bool:
        """Look in memory, without the lock: it is one look into a dictionary."""
        return ingestion_id is None or self._core.state.get(ingestion_id) is not None

    def watch(
        self, ingestion_id: str, version: int, on_change: Callable[[], None]
    ) -> Callable[[], None]:
        """Remember whom to call, unless it is time already."""
        core = self._core
        with core.lock:
            ingestion = core.state.get(ingestion_id)
            if ingestion is not None and ingestion.version == version and not core.draining:
                end = core.state.watches.add(ingestion_id, on_change)

                def end_watch() -> None:
                    with core.lock:
                        end()

                return end_watch
        on_change()
        return lambda: None
