"""Posted generations summed over whole hours and whole days, so that no page counts single calls."""

from __future__ import annotations

from django.db import models

from accounts.owned import Owned


class UsageSpan(Owned):
    """What one key used of one endpoint in an hour or a day (UTC) of admission."""

    organization = models.ForeignKey(
        "accounts.Organization",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    key = models.ForeignKey(
        "accounts.Key", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    model = models.TextField()
    endpoint = models.TextField()
    hours = models.SmallIntegerField()
    """How long the span is: 1 or 24."""
    start = models.DateTimeField()
    requests = models.BigIntegerField()
    failed = models.BigIntegerField()
    """By the provider's fault or ours."""
    aborted = models.BigIntegerField()
    prompt = models.BigIntegerField()
    """All prompt tokens, cached ones included."""
    cached = models.BigIntegerField()
    """Prompt tokens read from a cache."""
    completion = models.BigIntegerField()
    """All completion tokens, reasoning included."""
    base_nanos = models.BigIntegerField()
    charge_nanos = models.BigIntegerField()
    saved_nanos = models.BigIntegerField()
    """By how much caches made the charges smaller, of each call exactly; what writing to them cost is taken
    off, so it may be less than nothing."""

    class Meta(Owned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "hours", "start", "key", "endpoint"], name="usage_span_once"
            ),
            models.CheckConstraint(condition=models.Q(hours__in=[1, 24]), name="usage_span_hours"),
        ]

    def __str__(self) -> str:
        return f"{self.endpoint} for {self.hours} h from {self.start:%Y-%m-%d %H:00}"


class SpeedSpan(Owned):
    """How many completed calls of a key took so long in an hour or a day; three steps to a doubling."""

    organization = models.ForeignKey(
        "accounts.Organization",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    key = models.ForeignKey(
        "accounts.Key", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    hours = models.SmallIntegerField()
    start = models.DateTimeField()
    first = models.BooleanField()
    """Whether it is the first token or the whole answer."""
    step = models.SmallIntegerField()
    """floor(3 × log₂ milliseconds)."""
    calls = models.BigIntegerField()

    class Meta(Owned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "hours", "start", "key", "first", "step"], name="speed_span_once"
            ),
            models.CheckConstraint(condition=models.Q(hours__in=[1, 24]), name="speed_span_hours"),
        ]

    def __str__(self) -> str:
        return f"{self.calls} calls for {self.hours} h from {self.start:%Y-%m-%d %H:00}"
