"""What a monitoring system collects: read from the service when it is asked for.

Nothing is counted a second time here.
"""

from collections.abc import Iterator

from flask import Blueprint, Response, current_app, request
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from ingest_service.keys.keyring import Keyring
from ingest_service.keys.scope import Scope
from ingest_service.service import Service
from ingest_service.web.http_counts import BOUNDS, HttpCounts, the_counts
from ingest_service.web.metric_families import FAMILIES, cumulative
from ingest_service.web.openapi import operation
from ingest_service.web.request import the_service
from ingest_service.web.responses import JsonResponse

bp = Blueprint("metrics", __name__)

_OPENMETRICS, _TEXT = "application/openmetrics-text", "text/plain"
_EXAMPLE = """\
# HELP ingest_queued_batches Batches that wait.
# TYPE ingest_queued_batches gauge
ingest_queued_batches{priority="HIGH"} 4.0
"""


@bp.get("/metrics")
@operation(
    tag="Operation",
    scope=Scope.METRICS,
    returns=(),
    streams={_TEXT: _EXAMPLE, _OPENMETRICS: f"{_EXAMPLE}# EOF\n"},
)
def show_metrics() -> Response:
    """Be monitored.

    Text for Prometheus; OpenMetrics for whoever accepts that.
    """
    registry = CollectorRegistry(auto_describe=False)
    keyring: Keyring | None = current_app.extensions["keyring"]
    registry.register(ServiceCollector(the_service(), the_counts(), keyring))
    if _would_rather_have(_OPENMETRICS, _TEXT):
        text = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        media_type = openmetrics.CONTENT_TYPE_LATEST
    else:
        text, media_type = generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4
    return JsonResponse(text, media_type=media_type)


def _would_rather_have(wanted: str, usual: str) -> bool:
    """Tell whether the client accepts one media type, of any version, and the other not more."""
    qualities = {wanted: 0.0, usual: 0.0}
    for told, quality in request.accept_mimetypes:
        media_type = told.partition(";")[0].strip().lower()
        if media_type in qualities:
            qualities[media_type] = max(qualities[media_type], quality)
    return qualities[wanted] > 0 and qualities[wanted] >= qualities[usual]


class ServiceCollector(Collector):
    """Everything that there is to tell about a service, at the moment it is asked."""

    def __init__(self, service: Service, http: HttpCounts, keyring: Keyring | None) -> None:
        self._service = service
        self._http = http
        self._keyring = keyring

    def describe(self) -> Iterator[Metric]:
        """Name nothing beforehand."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        measured = self._service.queries.measurements()
        for family in FAMILIES:
            yield family.told(measured)
        yield from self._of_http()
        yield from self._of_keys()

    def _of_http(self) -> Iterator[Metric]:
        answered = CounterMetricFamily(
            "ingest_http_requests", "Answers.", labels=("route", "method", "code")
        )
        for (route, method, code), count in self._http.answered().items():
            answered.add_metric((route, method, str(code)), count)
        yield answered
        durations = HistogramMetricFamily(
            "ingest_http_request_seconds",
            "Time until an answer is ready, without the network.",
            labels=("route", "method"),
        )
        for names, (counts, total) in self._http.durations().items():
            durations.add_metric(names, cumulative(BOUNDS, counts), total)
        yield durations
        replays = CounterMetricFamily(
            "ingest_idempotent_replays", "Submissions that were answered before."
        )
        replays.add_metric((), self._http.replays)
        yield replays

    def _of_keys(self) -> Iterator[Metric]:
        health = None if self._keyring is None else self._keyring.health()
        in_force = GaugeMetricFamily("ingest_keys_in_force", "API keys in force.")
        in_force.add_metric((), health.in_force if health else 0)
        yield in_force
        trouble = GaugeMetricFamily(
            "ingest_keys_file_trouble", "1 if the keys file was changed and cannot be used."
        )
        trouble.add_metric((), bool(health and health.trouble))
        yield trouble
