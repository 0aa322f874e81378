"""Wallets, the terms they buy at, and the plans that those come from."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from accounts.owned import Owned
from aggregator.lib import clock
from billing.core.money import MOST_NANOS
from billing.models.guards import APPEND_ONLY, ONLY_BURNS


class Plan(models.Model):
    """A plan's terms from `starts_at` on. A change is a new row; a wallet keeps the terms it was given."""

    slug = models.TextField()
    name = models.TextField()
    markup = models.DecimalField(max_digits=9, decimal_places=6, null=True)
    """A fraction: 0.03 for 3 %. Null is custom: agreed with each organization."""
    monthly_nanos = models.BigIntegerField(null=True)
    volume_discount = models.DecimalField(max_digits=9, decimal_places=6, null=True)
    """A fraction of the usage above the threshold in a calendar month, given back as a rebate."""
    discount_threshold_nanos = models.BigIntegerField(default=0)
    discount_basis = models.TextField(default="billed")
    """What the threshold and the rebate are measured on: `billed` usage, mark-up included."""
    starts_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["slug", "starts_at"], name="plans_slug_starts_at"),
            models.CheckConstraint(condition=Q(markup__isnull=True) | Q(markup__gte=0), name="plans_markup"),
            models.CheckConstraint(
                condition=Q(volume_discount__isnull=True) | Q(volume_discount__gte=0, volume_discount__lt=1),
                name="plans_volume_discount",
            ),
        ]
        triggers = [APPEND_ONLY]

    def __str__(self) -> str:
        return self.name


class Wallet(Owned):
    """An organization's prepaid credit and the terms it buys at."""

    organization = models.OneToOneField(
        "accounts.Organization", on_delete=models.PROTECT, primary_key=True, related_name="+"
    )
    balance_nanos = models.BigIntegerField(default=0)
    """Σ entries of the wallet's account: written by `billing.ledger` alone, proven by `billing.reconcile`."""
    plan = models.TextField()
    markup = models.DecimalField(max_digits=9, decimal_places=6)
    terms_version = models.IntegerField(default=1)
    """Grows with every change of plan or mark-up, so that a worker can tell whether its copy is current."""
    credit_limit_nanos = models.BigIntegerField(db_default=0)
    """How far below zero the balance may go: zero for who pays ahead."""
    frozen_at = models.DateTimeField(null=True, blank=True)
    frozen_because = models.TextField(db_default="", blank=True)
    """`dispute`, `fraud_warning`, `unpaid` or `operator`, or several with commas between them; while it says
    something, no call is admitted. `plans.why_frozen` has it in words."""
    chain_length = models.BigIntegerField(db_default=0)
    chain_hash = models.BinaryField(null=True)
    """The end of the organization's chain of postings, kept by `billing.ledger`."""
    opened_at = models.DateTimeField(default=clock.now)
    untold = models.UUIDField(null=True, blank=True, editable=False)
    """Names the last change that the gate has not heard of; see `billing.reloads`."""

    class Meta(Owned.Meta):
        indexes = [
            models.Index(fields=["organization"], condition=Q(untold__isnull=False), name="wallets_untold")
        ]
        constraints = [
            models.CheckConstraint(condition=Q(markup__gte=0, markup__lte=100), name="wallets_markup"),
            models.CheckConstraint(
                condition=Q(balance_nanos__gte=-MOST_NANOS, balance_nanos__lte=MOST_NANOS),
                name="wallets_balance",
            ),
            models.CheckConstraint(
                condition=Q(credit_limit_nanos__gte=0, credit_limit_nanos__lte=MOST_NANOS),
                name="wallets_credit_limit",
            ),
            models.CheckConstraint(
                condition=Q(frozen_at__isnull=True, frozen_because="")
                | Q(frozen_at__isnull=False) & ~Q(frozen_because=""),
                name="wallets_frozen",
            ),
        ]

    def __str__(self) -> str:
        return str(self.organization)


class AgreedTerms(Owned):
    """What an organization buys at from `starts_at` on; the newest row that has begun is in force."""

    version = models.IntegerField()
    """The wallet's `terms_version` that it came with."""
    plan = models.TextField()
    markup = models.DecimalField(max_digits=9, decimal_places=6)
    monthly_nanos = models.BigIntegerField(default=0)
    volume_discount = models.DecimalField(max_digits=9, decimal_places=6, default=0)
    discount_threshold_nanos = models.BigIntegerField(default=0)
    discount_basis = models.TextField(default="billed")
    credit_limit_nanos = models.BigIntegerField(default=0)
    postpaid = models.BooleanField(default=False)
    """Whether the month is invoiced after its end, instead of credit bought ahead."""
    days_until_due = models.PositiveSmallIntegerField(default=0)
    """Of a postpaid invoice; 0 charges the card at once."""
    starts_at = models.DateTimeField(default=clock.now)
    agreed_by = models.TextField(default="")
    """As `accounts.audit.name` writes an actor."""
    note = models.TextField(default="", blank=True)

    class Meta(Owned.Meta):
        verbose_name_plural = "agreed terms"
        constraints = [
            models.UniqueConstraint(fields=["organization", "version"], name="agreed_terms_version"),
            models.CheckConstraint(
                condition=Q(markup__gte=0, volume_discount__gte=0, volume_discount__lt=1)
                & Q(monthly_nanos__gte=0, discount_threshold_nanos__gte=0, credit_limit_nanos__gte=0),
                name="agreed_terms_amounts",
            ),
        ]
        indexes = [models.Index(fields=["organization", "-starts_at"], name="agreed_terms_organization")]
        triggers = [APPEND_ONLY]

    def __str__(self) -> str:
        return f"{self.plan} since {self.starts_at:%Y-%m-%d %H:%M}"


class CreditLot(Owned):
    """Credit that came in with one posting, and what is left of it. Promotions burn first, the earliest
    to expire before others; `billing.ledger` alone writes what is left."""

    class Kind(models.TextChoices):
        PROMOTION = "promotion"
        REBATE = "rebate"
        PAID = "paid"

    posting = models.OneToOneField("billing.Posting", on_delete=models.PROTECT, related_name="lot")
    kind = models.TextField(choices=Kind.choices)
    rank = models.SmallIntegerField()
    """0 promotion, 1 rebate, 2 paid: the first part of the order in which lots burn."""
    nanos = models.BigIntegerField()
    remaining_nanos = models.BigIntegerField()
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=clock.now)

    class Meta(Owned.Meta):
        constraints = [
            models.CheckConstraint(
                condition=Q(nanos__gt=0, remaining_nanos__gte=0, remaining_nanos__lte=F("nanos")),
                name="credit_lots_remaining",
            ),
        ]
        indexes = [
            models.Index(
                fields=["organization", "rank", "expires_at", "id"],
                condition=Q(remaining_nanos__gt=0),
                name="credit_lots_burn",
            ),
            models.Index(
                fields=["expires_at"],
                condition=Q(remaining_nanos__gt=0, expires_at__isnull=False),
                name="credit_lots_expiry",
            ),
        ]
        triggers = [ONLY_BURNS]

    def __str__(self) -> str:
        return f"{self.kind} of {self.created_at:%Y-%m-%d}"


class MonthClose(Owned):
    """A calendar month (UTC) of one organization, closed once: its rebate, and the margin that it left us."""

    month = models.DateField()
    """Its first day."""
    charged_nanos = models.BigIntegerField()
    base_nanos = models.BigIntegerField()
    loss_nanos = models.BigIntegerField()
    subscription_nanos = models.BigIntegerField(default=0)
    stripe_fees_nanos = models.BigIntegerField(default=0)
    rebate_nanos = models.BigIntegerField(default=0)
    margin_nanos = models.BigIntegerField()
    """Charged − base − loss + subscription − Stripe's fees − rebate."""
    detail = models.JSONField(default=list)
    """One object for each stretch of the month on one set of terms: from, until, plan, usage, rebate."""
    posting = models.OneToOneField("billing.Posting", on_delete=models.PROTECT, null=True, related_name="+")
    """The rebate's; none when there was none."""
    closed_at = models.DateTimeField(default=clock.now)

    class Meta(Owned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization", "month"], name="month_closes_once")]
        triggers = [APPEND_ONLY]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"
