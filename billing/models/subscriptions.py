"""What is paid by the month: subscriptions to a plan, and invoices that Stripe collects."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.owned import Owned
from aggregator.lib import clock, ids


class Subscription(Owned):
    """An organization's subscription to Pro or Business, as Stripe last told of it."""

    class State(models.TextChoices):
        CREATED = "created", "Created"
        OPEN = "open", "Awaiting payment"
        ACTIVE = "active", "Active"
        PAST_DUE = "past_due", "Payment overdue"
        ENDED = "ended", "Ended"
        EXPIRED = "expired", "Abandoned"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    plan = models.TextField()
    """What is paid for now."""
    next_plan = models.TextField(default="")
    """What it becomes at the period's end, when that is another; `free` when it is canceled then."""
    state = models.TextField(choices=State.choices, default=State.CREATED)
    stripe_id = models.TextField(null=True, unique=True)
    session_id = models.TextField(null=True, unique=True)
    session_url = models.TextField(default="")
    schedule_id = models.TextField(default="")
    period_start = models.DateTimeField(null=True)
    period_end = models.DateTimeField(null=True)
    grace_until = models.DateTimeField(null=True)
    """While a payment is overdue: until then the plan stays, after it comes Free."""
    looks = models.IntegerField(db_default=0, default=0)
    """Grows whenever what Stripe says is applied, so that nobody applies what he had read before that."""
    wish = models.TextField(db_default="", default="")
    """A change that Stripe was asked for and has not answered yet: `up:business`, `down:pro`, `cancel`, …"""
    wish_id = models.UUIDField(null=True)
    """Makes the idempotency key of that change; the time is in it."""
    asked_by = models.TextField(default="")
    created_at = models.DateTimeField(default=clock.now)
    ended_at = models.DateTimeField(null=True)

    class Meta(Owned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["organization"],
                condition=Q(state__in=["active", "past_due"]),
                name="subscriptions_one_living",
            )
        ]

    def __str__(self) -> str:
        return f"{self.plan} ({self.state})"


class StripeInvoice(Owned):
    """An invoice that Stripe collects: a subscription's period, or the month of who pays afterwards."""

    class Purpose(models.TextChoices):
        SUBSCRIPTION = "subscription"
        POSTPAID = "postpaid"

    class State(models.TextChoices):
        CREATED = "created", "Created"
        DRAFT = "draft", "Draft"
        OPEN = "open", "Awaiting payment"
        PAID = "paid", "Paid"
        VOID = "void", "Void"
        UNCOLLECTIBLE = "uncollectible", "Not collectible"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    purpose = models.TextField(choices=Purpose.choices)
    state = models.TextField(choices=State.choices, default=State.CREATED)
    stripe_id = models.TextField(null=True, unique=True)
    subscription = models.ForeignKey(
        Subscription, on_delete=models.PROTECT, null=True, related_name="invoices"
    )
    month = models.DateField(null=True)
    """The month's first day, of a postpaid one."""
    cents = models.BigIntegerField()
    """Without tax."""
    tax_cents = models.BigIntegerField(default=0)
    lines = models.JSONField(default=list)
    """Of a postpaid one: what each line says and its cents."""
    days_until_due = models.PositiveSmallIntegerField(db_default=0, default=0)
    """Of a postpaid one; 0 charges the card at once."""
    payment_intent_id = models.TextField(null=True, unique=True)
    charge_id = models.TextField(null=True, unique=True)
    hosted_url = models.TextField(default="")
    pdf_url = models.TextField(default="")
    failure_message = models.TextField(default="")
    due_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=clock.now)
    paid_at = models.DateTimeField(null=True)

    class Meta(Owned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "month"], condition=Q(purpose="postpaid"), name="postpaid_month_once"
            ),
            models.CheckConstraint(condition=Q(tax_cents__gte=0), name="stripe_invoices_cents"),
        ]
        indexes = [models.Index(fields=["organization", "-created_at"], name="stripe_invoices_organization")]

    def __str__(self) -> str:
        return self.stripe_id or str(self.id)
