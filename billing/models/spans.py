"""Posted generations summed: by hours and days, by the month whose bill they are on, by end user."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from accounts.owned import Owned


class _Summed(Owned):
    """Rows of an organization that posting adds to: nobody waits for its row, or for those of its keys."""

    organization = models.ForeignKey(
        "accounts.Organization",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )

    class Meta(Owned.Meta):
        abstract = True


class _Span(_Summed):
    """What was used of one endpoint in an hour, a day or a month (UTC) of admission."""

    model = models.TextField()
    endpoint = models.TextField()
    hours = models.SmallIntegerField()
    """How long the span is: 1, 24, or 720 for a calendar month."""
    start = models.DateTimeField()
    requests = models.BigIntegerField()
    failed = models.BigIntegerField()
    """By the provider's fault or ours."""
    aborted = models.BigIntegerField()
    prompt = models.BigIntegerField()
    """All prompt tokens, cached ones included."""
    cached = models.BigIntegerField()
    """Prompt tokens read from a cache."""
    cache_written = models.BigIntegerField()
    """Prompt tokens written to one."""
    completion = models.BigIntegerField()
    """All completion tokens, reasoning included."""
    reasoning = models.BigIntegerField()
    base_nanos = models.BigIntegerField()
    charge_nanos = models.BigIntegerField()
    loss_nanos = models.BigIntegerField()
    saved_nanos = models.BigIntegerField()
    """By how much caches made the charges smaller, of each call exactly; what writing to them cost is taken
    off, so it may be less than nothing."""

    class Meta(_Summed.Meta):
        abstract = True

    def __str__(self) -> str:
        return f"{self.endpoint} for {self.hours} h from {self.start:%Y-%m-%d %H:00}"


class UsageSpan(_Span):
    """Of one key."""

    key = models.ForeignKey(
        "accounts.Key", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    # These came later: rows that were there have nothing of them.
    cache_written = models.BigIntegerField(db_default=0, default=0)
    reasoning = models.BigIntegerField(db_default=0, default=0)
    loss_nanos = models.BigIntegerField(db_default=0, default=0)

    class Meta(_Span.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "hours", "start", "key", "endpoint"], name="usage_span_once"
            ),
            models.CheckConstraint(condition=Q(hours__in=[1, 24, 720]), name="usage_span_hours"),
        ]
        indexes = [models.Index(fields=["key", "hours", "start"], name="usage_span_key")]


class EndpointSpan(_Span):
    """Of all keys: fewer rows than `UsageSpan`, for whoever asks for no key."""

    class Meta(_Span.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "hours", "start", "endpoint"], name="endpoint_span_once"
            ),
            models.CheckConstraint(condition=Q(hours__in=[1, 24, 720]), name="endpoint_span_hours"),
        ]


class SpeedSpan(_Summed):
    """How many completed calls took so long in an hour or a day; three steps to a doubling.

    Of each key, and of all together under the key 0, so that who asks for no key reads one row a step.
    """

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

    class Meta(_Summed.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "hours", "start", "key", "first", "step"], name="speed_span_once"
            ),
            models.CheckConstraint(condition=Q(hours__in=[1, 24]), name="speed_span_hours"),
        ]

    def __str__(self) -> str:
        return f"{self.calls} calls for {self.hours} h from {self.start:%Y-%m-%d %H:00}"


class BilledUsage(_Summed):
    """Posted generations by the month whose bill they are on, and by all that made their price.

    All calls of a row had one price row, window, tier and mark-up, so units × rate is its exact price.
    """

    class Kind(models.TextChoices):
        CHARGED = "charged"
        CAPPED = "capped"
        """Charged less than its price: the hold covered no more."""
        FREE = "free"

    key = models.ForeignKey(
        "accounts.Key", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    month = models.DateField()
    """The bill's: that of admission, or, if that was closed when a call was posted, the first open one."""
    used_in = models.DateField()
    """The month of admission."""
    model = models.TextField()
    endpoint = models.TextField()
    price_id = models.BigIntegerField()
    """0: of no price, since nothing was used."""
    price_window = models.SmallIntegerField()
    price_tier = models.SmallIntegerField()
    markup = models.DecimalField(max_digits=9, decimal_places=6)
    kind = models.TextField(choices=Kind.choices)
    requests = models.BigIntegerField()
    priced_requests = models.BigIntegerField()
    """Those that a price per request is asked for."""
    input = models.BigIntegerField()
    cache_read = models.BigIntegerField()
    cache_write_5m = models.BigIntegerField()
    cache_write_1h = models.BigIntegerField()
    image = models.BigIntegerField()
    audio = models.BigIntegerField()
    output = models.BigIntegerField()
    reasoning = models.BigIntegerField()
    image_output = models.BigIntegerField()
    audio_output = models.BigIntegerField()
    base_nanos = models.BigIntegerField()
    charge_nanos = models.BigIntegerField()
    loss_nanos = models.BigIntegerField()

    class Meta(_Summed.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=[
                    "organization",
                    "month",
                    "used_in",
                    "key",
                    "endpoint",
                    "price_id",
                    "price_window",
                    "price_tier",
                    "markup",
                    "kind",
                ],
                name="billed_usage_once",
            ),
            models.CheckConstraint(condition=Q(used_in__lte=F("month")), name="billed_usage_months"),
        ]

    def __str__(self) -> str:
        return f"{self.endpoint} on the bill of {self.month:%Y-%m}"


class _EndUserSum(_Summed):
    """What calls that named a user used, by their admission (UTC).

    Of each user, and of all together under the empty name, so that who asks for none reads one row.
    """

    end_user = models.TextField()
    requests = models.BigIntegerField()
    prompt = models.BigIntegerField()
    completion = models.BigIntegerField()
    charge_nanos = models.BigIntegerField()

    class Meta(_Summed.Meta):
        abstract = True


class EndUserDay(_EndUserSum):
    """In a day."""

    day = models.DateField()

    class Meta(_EndUserSum.Meta):
        constraints = [
            models.UniqueConstraint(fields=["organization", "end_user", "day"], name="end_user_day_once")
        ]
        indexes = [models.Index(fields=["organization", "day"], name="end_user_day")]

    def __str__(self) -> str:
        return f"an end user on {self.day}"


class EndUserMonth(_EndUserSum):
    """In a whole month."""

    month = models.DateField()
    """Its first day."""

    class Meta(_EndUserSum.Meta):
        constraints = [
            models.UniqueConstraint(fields=["organization", "end_user", "month"], name="end_user_month_once")
        ]
        indexes = [models.Index(fields=["organization", "month"], name="end_user_month")]

    def __str__(self) -> str:
        return f"an end user in {self.month:%Y-%m}"
