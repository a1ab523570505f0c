"""Queue work in front of one slow, rate-limited API: in order, at its pace, nothing lost."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingest_service.app import create_app as create_app
    from ingest_service.settings import Settings as Settings

__all__ = ["Settings", "create_app"]


def __getattr__(name: str) -> Any:
    """Load what is public when it is asked for: a client must not pay for the server."""
    if name == "create_app":
        from ingest_service.app import create_app

        return create_app
    if name == "Settings":
        from ingest_service.settings import Settings

        return Settings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
