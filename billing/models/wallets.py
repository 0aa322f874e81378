"""Wallets, the terms they buy at, and the plans that those come from."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.owned import Owned
from aggregator.lib import clock
from billing.models.guards import APPEND_ONLY
from billing.money import MOST_NANOS


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
        ]

    def __str__(self) -> str:
        return str(self.organization)
