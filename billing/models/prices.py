"""Dated prices of endpoints."""

from __future__ import annotations

from django.db import models

from aggregator.lib import clock
from billing.models.guards import APPEND_ONLY


class Price(models.Model):
    """What an endpoint costs from `starts_at` on; the newest row that has begun is in force."""

    endpoint = models.TextField()
    """`provider:author/slug`."""
    stated = models.JSONField()
    """As `billing.core.pricing.parse_price` reads it: decimal strings, USD per million tokens."""
    source = models.TextField()
    starts_at = models.DateTimeField(default=clock.now)

    class Meta:
        indexes = [models.Index(fields=["endpoint", "starts_at"], name="prices_endpoint_starts_at")]
        triggers = [APPEND_ONLY]

    def __str__(self) -> str:
        return f"{self.endpoint} since {self.starts_at:%Y-%m-%d %H:%M}"
