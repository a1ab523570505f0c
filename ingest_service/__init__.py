"""Queue work in front of one slow, rate-limited API: in order, at its pace, nothing lost."""

from ingest_service.app import create_app as create_app
from ingest_service.settings import Settings as Settings

__all__ = ["Settings", "create_app"]
