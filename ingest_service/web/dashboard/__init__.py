"""The pages for people: rendered here, readable without scripts, kept up to date by them."""

from flask import Flask

from ingest_service.keys.keyring import Keyring
from ingest_service.service import Service
from ingest_service.settings import Settings
from ingest_service.web.dashboard import controls, formats, gate, pages, submitting
from ingest_service.web.dashboard.looking_back import looking_back
from ingest_service.web.dashboard.sessions import Sessions


def init_app(app: Flask, settings: Settings, service: Service, keyring: Keyring | None) -> None:
    """Give `app` the pages."""
    app.config["UPSTREAM"] = settings.upstream
    app.extensions["dashboard_sessions"] = (
        None if keyring is None else Sessions(keyring, service.operator.session_secret)
    )
    app.extensions["looking_back"] = looking_back(service.queries)
    for template_filter in formats.FILTERS:
        app.add_template_filter(template_filter, f"shown_{template_filter.__name__}")
    for module in (gate, pages, controls, submitting):
        app.register_blueprint(module.bp)
