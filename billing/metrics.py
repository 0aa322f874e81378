"""`GET /metrics` for Prometheus: what an operator's alarm needs to know of money, read when it is asked.

It tells nothing of any organization. Who asks shows `METRICS_TOKEN` as a bearer; without one set there is
no such page.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_GET
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from billing import alerts, watch


class _Money(Collector):
    """Everything is in PostgreSQL, so any process may answer for all."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        raised = GaugeMetricFamily("fairlead_alerts_open", "Alerts that nobody resolved.", labels=["kind"])
        broken = GaugeMetricFamily(
            "fairlead_invariant_broken", "Invariants of money that were found broken.", labels=["invariant"]
        )
        kinds: dict[str, int] = {}
        for alert in alerts.open_alerts():
            kinds[alert.kind] = kinds.get(alert.kind, 0) + 1
            if alert.kind == "invariant":
                broken.add_metric([alert.subject], 1)
        for kind, count in sorted(kinds.items()):
            raised.add_metric([kind], count)
        silence = GaugeMetricFamily(
            "fairlead_job_age_seconds", "Since this job last came to its end.", labels=["job"]
        )
        for job, seconds in watch.ages().items():
            silence.add_metric([job], seconds)
        waiting = GaugeMetricFamily("fairlead_waiting", "How many wait to be worked off.", labels=["what"])
        oldest = GaugeMetricFamily(
            "fairlead_waiting_oldest_seconds", "How long the oldest of them has waited.", labels=["what"]
        )
        for backlog in watch.backlogs():
            waiting.add_metric([backlog.name], backlog.count)
            oldest.add_metric([backlog.name], backlog.oldest_seconds)
        yield from (raised, broken, silence, waiting, oldest)


@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
    wanted = settings.METRICS_TOKEN
    if not wanted or not secrets.compare_digest(shown.encode(), wanted.encode()):
        raise Http404
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Money())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
