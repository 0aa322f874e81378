"""What may be spent in a window of time, and what was told about it."""

from __future__ import annotations

from functools import partial

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from accounts.owned import Owned
from aggregator.lib import clock, ids
from billing.core.money import MOST_NANOS


class Budget(Owned):
    """A hard limit of an organization, its members or its end users; keys have their own in `accounts`.

    That of one member or end user stands in place of the one for every member or end user.
    """

    class Kind(models.TextChoices):
        ORGANIZATION = "organization"
        MEMBER = "member"
        END_USER = "end_user"

    class Window(models.TextChoices):
        DAY = "day"
        WEEK = "week"
        MONTH = "month"
        TOTAL = "total"

    public_id = models.CharField(max_length=24, unique=True, editable=False)
    """`bud_…`."""
    kind = models.TextField(choices=Kind.choices)
    member = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    """None, of kind member: each of them has it."""
    end_user = models.TextField(default="")
    """Empty, of kind end user: each of them has it."""
    window = models.TextField(choices=Window.choices)
    limit_nanos = models.BigIntegerField()
    thresholds = ArrayField(models.SmallIntegerField(), default=partial(list, (50, 80, 100)))
    """In percent of the limit, ascending: when people are told."""
    created_at = models.DateTimeField(default=clock.now)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    deleted_at = models.DateTimeField(null=True)

    class Meta(Owned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "kind", "member", "end_user", "window"],
                condition=Q(deleted_at=None),
                nulls_distinct=False,
                name="budget_once",
            ),
            models.CheckConstraint(condition=Q(limit_nanos__range=(0, MOST_NANOS)), name="budget_limit"),
            models.CheckConstraint(
                condition=Q(kind="organization", member=None, end_user="")
                | Q(kind="member", end_user="")
                | Q(kind="end_user", member=None),
                name="budget_subject",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} by {self.window} ({self.public_id})"


class BudgetAlert(Owned):
    """That an account of the gate passed a threshold of its limit was told, once a window."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    account = models.TextField()
    """As `billing.core.budgets` names it, window and all."""
    percent = models.SmallIntegerField()
    used_nanos = models.BigIntegerField()
    limit_nanos = models.BigIntegerField()
    at = models.DateTimeField(default=clock.now)
    waits = models.BooleanField(db_default=False, default=False)
    """For the letter that sums up what was passed in an hour."""

    class Meta(Owned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["organization", "account", "percent"], name="budget_alert_once")
        ]
        indexes = [
            models.Index(fields=["organization", "-at"], name="budget_alert_newest"),
            models.Index(fields=["organization"], condition=Q(waits=True), name="budget_alert_waits"),
        ]

    def __str__(self) -> str:
        return f"{self.percent} % of {self.account}"


class LowCredit(Owned):
    """When an organization is told that its credit runs low; one without a row, by the usual rule."""

    organization = models.OneToOneField(
        "accounts.Organization", on_delete=models.PROTECT, primary_key=True, related_name="+"
    )
    is_on = models.BooleanField(db_default=True, default=True)
    threshold_nanos = models.BigIntegerField(null=True)
    """Below what; None is the usual amount."""
    told_at = models.DateTimeField(null=True)
    """While credit is low; None once it has risen again."""

    class Meta(Owned.Meta):
        verbose_name_plural = "low credit"
        indexes = [
            models.Index(fields=["organization"], condition=Q(told_at__isnull=False), name="low_credit_told")
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(threshold_nanos=None) | Q(threshold_nanos__range=(1, MOST_NANOS)),
                name="low_credit_threshold",
            )
        ]

    def __str__(self) -> str:
        return f"low credit of {self.organization_id}"
