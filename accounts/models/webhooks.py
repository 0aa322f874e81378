"""Columns of webhooks: where an organization wants to hear what happens, what happened, and each telling."""

from __future__ import annotations

from typing import Final

from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.core import limits
from accounts.models.tenants import User
from accounts.owned import Owned
from aggregator.lib import clock, ids

_MOST_URL: Final = 1000


class WebhookEndpoint(Owned):
    """A URL of the organization's that is told of events."""

    class Off(models.TextChoices):
        """Why nothing is sent to it; empty while it is on."""

        BY_HAND = "by_hand"
        GONE = "gone"
        """It answered 410."""
        FAILING = "failing"
        """Nothing got through for days."""

    public_id = models.CharField(max_length=24, unique=True, editable=False)
    """`whk_…`, set by `accounts.webhooks.endpoints.add`."""
    name = models.CharField(max_length=limits.MOST_NAME)
    url = models.CharField(max_length=_MOST_URL)
    """May hold a secret of the receiver's: it stands in no log."""
    events = ArrayField(models.CharField(max_length=60), default=list)
    """The types that it wants; none is all, those that come later too."""
    off = models.CharField(max_length=10, choices=Off, blank=True, default="")
    failing_since = models.DateTimeField(null=True)
    """The first failure after the last success."""
    letter_waits = models.BooleanField(default=False)
    """Whether a letter that says it was switched off is yet to be sent."""
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta(Owned.Meta):
        indexes = [models.Index(fields=["organization", "-created_at"], name="webhook_by_organization")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(off__in=["", "by_hand", "gone", "failing"]), name="webhook_off"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"


class WebhookSecret(models.Model):
    """What an endpoint's messages are signed with, sealed. A rotated one has two until the older expires."""

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="secrets")
    sealed = models.BinaryField()
    sealed_with = models.CharField(max_length=16)
    """Which of `WEBHOOK_KEYS`."""
    created_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"secret {self.pk} of {self.endpoint_id}"


class WebhookEvent(Owned):
    """Something that happened: written once for each organization, type and key, with what it tells of."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    type = models.CharField(max_length=60)
    key = models.CharField(max_length=200)
    data = models.JSONField()
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta(Owned.Meta):
        indexes = [models.Index(fields=["created_at"], name="webhook_event_by_age")]
        constraints = [
            models.UniqueConstraint(fields=["organization", "type", "key"], name="webhook_event_once"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.message_id}"

    @property
    def message_id(self) -> str:
        """The `webhook-id`: the same however often and wherever it is sent."""
        return f"msg_{self.id.hex}"


class WebhookDelivery(Owned):
    """One event for one endpoint, until it got through or was given up."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DELIVERED = "delivered"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    event = models.ForeignKey(WebhookEvent, on_delete=models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    failures = models.PositiveSmallIntegerField(default=0)
    """In a row, since it was sent for the first time or by hand; with those that `Retry-After` spared."""
    next_try_at = models.DateTimeField(null=True, default=clock.now)
    """Also until when whoever sends it now has it to himself; none where it does not wait."""
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta(Owned.Meta):
        indexes = [
            models.Index(fields=["endpoint", "-created_at"], name="webhook_deliveries"),
            models.Index(
                fields=["endpoint", "next_try_at"],
                condition=models.Q(next_try_at__isnull=False),
                name="webhook_due",
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["event", "endpoint"], name="webhook_delivery_once"),
            models.CheckConstraint(
                condition=models.Q(state="waiting", next_try_at__isnull=False)
                | models.Q(state__in=["delivered", "failed"], next_try_at=None),
                name="webhook_delivery_state",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} to {self.endpoint_id}: {self.state}"


class WebhookAttempt(models.Model):
    """One request to an endpoint, and what came of it."""

    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="attempts")
    at = models.DateTimeField(default=clock.now, editable=False)
    status = models.PositiveSmallIntegerField(null=True)
    """None where no answer came; then `error` says why."""
    error = models.CharField(max_length=200, blank=True, default="")
    milliseconds = models.PositiveIntegerField()
    answer = models.TextField(blank=True, default="")
    """The first characters of the answer's body."""

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.status or self.error}"
