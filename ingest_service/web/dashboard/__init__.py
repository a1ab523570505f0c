"""The pages for people: rendered here, readable without scripts, kept up to date by them."""

from flask import Flask

from ingest_service.settings import Settings
from ingest_service.web.dashboard import controls, formats, pages, submitting


def init_app(app: Flask, settings: Settings) -> None:
    """Give `app` the pages."""
    app.config["UPSTREAM"] = settings.upstream
    for template_filter in formats.FILTERS:
        app.add_template_filter(template_filter, f"shown_{template_filter.__name__}")
    for module in (pages, controls, submitting):
        app.register_blueprint(module.bp)
