"""Fixtures of the front's tests."""

import pytest
from flask import Flask

from ingest_service.app import create_app
from ingest_service.settings import Settings


@pytest.fixture
def app() -> Flask:
    """Give an application whose queue stands still."""
    return create_app(Settings(interval=3_600, settle=3_600))
