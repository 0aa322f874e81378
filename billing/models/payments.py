"""What is paid by card: customers of Stripe, their cards, top-ups, refunds, disputes.

Amounts that Stripe moves are whole cents. Each row that leads to a call is committed before the call, and
the call's idempotency key is made from it.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.owned import Owned
from aggregator.lib import clock, ids

LEAST_TOP_UP_CENTS = 5_00
MOST_TOP_UP_CENTS = 25_000_00


class Customer(Owned):
    """An organization as Stripe knows it."""

    organization = models.OneToOneField(
        "accounts.Organization", on_delete=models.PROTECT, primary_key=True, related_name="+"
    )
    stripe_id = models.TextField(null=True, unique=True)
    """`cus_…`; null until Stripe has answered."""
    email = models.EmailField()
    """Where Stripe sends receipts: the owner's when the customer was made."""
    created_at = models.DateTimeField(default=clock.now)
    looks = models.IntegerField(default=0, db_default=0)
    """How often what Stripe said of its cards and invoices was written down."""

    def __str__(self) -> str:
        return self.stripe_id or "not known to Stripe yet"


class Card(Owned):
    """A payment method that Stripe keeps for an organization. No number of it ever reaches us."""

    stripe_id = models.TextField(unique=True)
    brand = models.TextField()
    last4 = models.TextField()
    exp_month = models.PositiveSmallIntegerField()
    exp_year = models.PositiveSmallIntegerField()
    is_default = models.BooleanField(default=False)
    added_at = models.DateTimeField(default=clock.now)
    removed_at = models.DateTimeField(null=True, blank=True)

    class Meta(Owned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["organization"],
                condition=Q(is_default=True, removed_at__isnull=True),
                name="cards_one_default",
            )
        ]

    def __str__(self) -> str:
        return f"{self.brand} …{self.last4}"


class TopUp(Owned):
    """Credit bought: by hand through Checkout, or by the saved card when the balance runs low."""

    class Kind(models.TextChoices):
        CHECKOUT = "checkout"
        AUTO = "auto"

    class State(models.TextChoices):
        CREATED = "created", "Created"
        """Committed here; whether Stripe knows of it is not known yet."""
        OPEN = "open", "Awaiting payment"
        PAID = "paid", "Paid"
        FAILED = "failed", "Failed"
        EXPIRED = "expired", "Abandoned"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    kind = models.TextField(choices=Kind.choices)
    state = models.TextField(choices=State.choices, default=State.CREATED)
    cents = models.BigIntegerField()
    """The credit that is bought; tax comes on top."""
    tax_cents = models.BigIntegerField(default=0)
    session_id = models.TextField(null=True, unique=True)
    session_url = models.TextField(default="")
    save_card = models.BooleanField(db_default=False)
    """Whether who pays agreed that the card is kept and later charged by itself."""
    payment_method_id = models.TextField(db_default="")
    """The card that an automatic one charges: asked again, it is the same."""
    payment_intent_id = models.TextField(null=True, unique=True)
    charge_id = models.TextField(null=True, unique=True)
    failure_code = models.TextField(default="")
    failure_message = models.TextField(default="")
    asked_by = models.TextField(default="")
    """As `accounts.audit.name` writes an actor."""
    created_at = models.DateTimeField(default=clock.now)
    ended_at = models.DateTimeField(null=True)

    class Meta(Owned.Meta):
        constraints = [
            models.CheckConstraint(
                condition=Q(cents__gte=LEAST_TOP_UP_CENTS, cents__lte=MOST_TOP_UP_CENTS, tax_cents__gte=0),
                name="top_ups_cents",
            ),
            models.UniqueConstraint(
                fields=["organization"],
                condition=Q(kind="auto", state__in=["created", "open"]),
                name="top_ups_one_auto_at_a_time",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-created_at"], name="top_ups_organization"),
            models.Index(
                fields=["created_at"], condition=Q(state__in=["created", "open"]), name="top_ups_waiting"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} top-up {self.id}"


class AutoTopUp(Owned):
    """When and how an organization's saved card is charged by itself."""

    organization = models.OneToOneField(
        "accounts.Organization", on_delete=models.PROTECT, primary_key=True, related_name="+"
    )
    enabled = models.BooleanField(default=False)
    threshold_nanos = models.BigIntegerField()
    cents = models.BigIntegerField()
    monthly_cap_cents = models.BigIntegerField()
    """The most that is charged by itself in a calendar month, UTC, tax apart."""
    paused_at = models.DateTimeField(null=True)
    paused_because = models.TextField(default="")
    changed_at = models.DateTimeField(default=clock.now)

    class Meta(Owned.Meta):
        constraints = [
            models.CheckConstraint(
                condition=Q(cents__gte=LEAST_TOP_UP_CENTS, cents__lte=MOST_TOP_UP_CENTS)
                & Q(threshold_nanos__gte=0, monthly_cap_cents__gte=0),
                name="auto_top_ups_amounts",
            )
        ]

    def __str__(self) -> str:
        return "on" if self.enabled and self.paused_at is None else "off"


class Refund(Owned):
    """Money given back for one top-up, asked for here or seen at Stripe."""

    class State(models.TextChoices):
        CREATED = "created", "Asked for"
        PENDING = "pending", "On its way"
        SUCCEEDED = "succeeded", "Paid back"
        FAILED = "failed", "Failed"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    top_up = models.ForeignKey(TopUp, on_delete=models.PROTECT, related_name="refunds")
    state = models.TextField(choices=State.choices, default=State.CREATED)
    cents = models.BigIntegerField()
    """What the card gets back, tax included."""
    tax_cents = models.BigIntegerField(default=0)
    reason = models.TextField()
    """`unused_credit`, `fraud` or `operator`."""
    stripe_id = models.TextField(null=True, unique=True)
    asked_by = models.TextField(default="")
    created_at = models.DateTimeField(default=clock.now)
    ended_at = models.DateTimeField(null=True)

    class Meta(Owned.Meta):
        constraints = [
            models.CheckConstraint(condition=Q(cents__gt=0, tax_cents__gte=0), name="refunds_cents")
        ]
        indexes = [
            models.Index(
                fields=["created_at"], condition=Q(state__in=["created", "pending"]), name="refunds_waiting"
            )
        ]

    def __str__(self) -> str:
        return f"refund {self.id}"


class Dispute(Owned):
    """A payment that the card's holder disputes: its money is gone until it is won."""

    stripe_id = models.TextField(primary_key=True)
    charge_id = models.TextField()
    top_up = models.ForeignKey(TopUp, on_delete=models.PROTECT, null=True, related_name="disputes")
    """None when it is the payment of an invoice."""
    invoice = models.ForeignKey(
        "billing.StripeInvoice", on_delete=models.PROTECT, null=True, related_name="+"
    )
    cents = models.BigIntegerField()
    reason = models.TextField(default="")
    status = models.TextField()
    """Stripe's word: `needs_response`, `under_review`, `won`, `lost`, …"""
    evidence_due_at = models.DateTimeField(null=True)
    opened_at = models.DateTimeField(default=clock.now)
    closed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.stripe_id


class FraudWarning(Owned):
    """The card's issuer suspects fraud: what is left of the payment goes back before it is disputed."""

    stripe_id = models.TextField(primary_key=True)
    charge_id = models.TextField()
    top_up = models.ForeignKey(TopUp, on_delete=models.PROTECT, null=True, related_name="+")
    fraud_type = models.TextField(default="")
    seen_at = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return self.stripe_id
