"""What was delivered: generations, and the spools they come from."""

from __future__ import annotations

import pgtrigger
from django.contrib.postgres.indexes import HashIndex
from django.db import models
from django.db.models import F, Q

from accounts.owned import Owned
from aggregator.lib import clock
from billing.models.guards import APPEND_ONLY


class Generation(Owned):
    """The billing record of one call. The table is partitioned by month on the UUIDv7; see the migration.

    No foreign-key constraint: rows arrive in bulk from the spools, and what they name is never deleted.
    """

    id = models.UUIDField(primary_key=True, editable=False)
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
    spool = models.UUIDField()
    posting_id = models.BigIntegerField(null=True)
    """Null until posted; 0 when no money moved, so that null always means *still to be looked at*."""
    status = models.TextField()
    """`completed` and `aborted` may be charged; `failed` and `void` are free."""
    model_asked = models.TextField(default="")
    model = models.TextField(default="")
    endpoint = models.TextField(default="")
    preference = models.TextField(default="")
    streamed = models.BooleanField(default=False)
    finish_reason = models.TextField(default="")
    native_finish_reason = models.TextField(default="")
    estimated = models.BooleanField(default=False)
    input = models.IntegerField(default=0)
    cache_read = models.IntegerField(default=0)
    cache_write_5m = models.IntegerField(default=0)
    cache_write_1h = models.IntegerField(default=0)
    output = models.IntegerField(default=0)
    reasoning = models.IntegerField(default=0)
    image = models.IntegerField(db_default=0, default=0)
    audio = models.IntegerField(db_default=0, default=0)
    image_output = models.IntegerField(db_default=0, default=0)
    audio_output = models.IntegerField(db_default=0, default=0)
    price_id = models.BigIntegerField(null=True)
    price_window = models.SmallIntegerField(default=0)
    """Which window of the price row was charged, from 1; 0 is none."""
    price_tier = models.SmallIntegerField(db_default=0, default=0)
    """Which of its tiers was charged, from 1; 0 is none."""
    markup = models.DecimalField(max_digits=9, decimal_places=6, default=0)
    parts = models.JSONField(default=list)
    """`[[kind, units, "exact nanos"], …]`, as `billing.core.pricing.Charge.parts`."""
    base_nanos = models.BigIntegerField(default=0)
    """The provider's share of the charge; the rest of the charge is the mark-up."""
    charge_nanos = models.BigIntegerField(default=0)
    loss_nanos = models.BigIntegerField(default=0)
    """What it cost us and was not charged."""
    ttft_ms = models.IntegerField(null=True)
    latency_ms = models.IntegerField(default=0)
    error_type = models.TextField(default="")
    upstream_id = models.TextField(default="")
    decision = models.JSONField(default=dict)
    user_agent = models.TextField(default="")
    end_user = models.TextField(db_default="", default="")
    """Whom the customer named as the user of the call."""
    ended_at = models.DateTimeField(default=clock.now)

    class Meta(Owned.Meta):
        db_table = "generations"
        constraints = [
            models.CheckConstraint(
                condition=Q(input__gte=0, cache_read__gte=0, cache_write_5m__gte=0, cache_write_1h__gte=0)
                & Q(output__gte=0, reasoning__gte=0, markup__gte=0, base_nanos__gte=0)
                & Q(charge_nanos__gte=F("base_nanos"), loss_nanos__gte=0),
                name="generations_amounts",
            ),
            models.CheckConstraint(
                condition=Q(image__gte=0, audio__gte=0, image_output__gte=0, audio_output__gte=0)
                & Q(price_tier__gte=0),
                name="generations_kinds",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["completed", "aborted"])
                | Q(status__in=["failed", "void"], charge_nanos=0),
                name="generations_status",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-id"], name="generations_organization"),
            models.Index(fields=["organization", "-charge_nanos", "-id"], name="generations_dearest"),
            models.Index(fields=["organization", "-latency_ms", "-id"], name="generations_slowest"),
            models.Index(
                fields=["organization", "id"], condition=Q(posting_id=None), name="generations_unposted"
            ),
            models.Index(fields=["key"], condition=Q(posting_id=None), name="generations_unposted_key"),
            HashIndex(fields=["upstream_id"], condition=~Q(upstream_id=""), name="generations_upstream"),
        ]
        triggers = [
            pgtrigger.Protect(name="no_delete", operation=pgtrigger.Delete),
            pgtrigger.Trigger(
                name="posted_once",
                operation=pgtrigger.Update,
                when=pgtrigger.Before,
                declare=[("unposted", "record")],
                func="""
                unposted := NEW;
                unposted.posting_id := NULL;
                IF OLD.posting_id IS NOT NULL OR NEW.posting_id IS NULL OR unposted IS DISTINCT FROM OLD THEN
                    RAISE EXCEPTION 'generation % can only be posted, and once', OLD.id
                        USING ERRCODE = 'check_violation';
                END IF;
                RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"gen-{self.id}"


class Spool(models.Model):
    """A spool file that is not closed: one per life of a gateway process. Closing deletes the row."""

    id = models.UUIDField(primary_key=True, editable=False)
    host = models.TextField(default="")
    pid = models.IntegerField(default=0)
    started_at = models.DateTimeField(default=clock.now)
    seen_at = models.DateTimeField(default=clock.now)
    """When its process last said that it lives."""

    class Meta:
        db_table = "spools"

    def __str__(self) -> str:
        return f"{self.id} on {self.host}"


class Tally(models.Model):
    """The highest running total that PostgreSQL holds of one spool for one account of the gate."""

    pk = models.CompositePrimaryKey("account", "spool_id")
    spool = models.ForeignKey(
        Spool, on_delete=models.DO_NOTHING, related_name="+", db_column="spool", db_index=False
    )
    """The database cascades: the tallies of a spool go with it, in the same statement."""
    account = models.TextField()
    """As `billing.core.budgets` names it: `org:<public id>`, `key:<public id>:<window>` and so on."""
    nanos = models.BigIntegerField()

    class Meta:
        db_table = "tallies"
        indexes = [models.Index(fields=["spool"], name="tallies_spool")]

    def __str__(self) -> str:
        return f"{self.account} in {self.spool_id}"


class DroppedMonth(models.Model):
    """A month of generations that is no longer kept: what it came to, over all organizations."""

    month = models.DateField(primary_key=True)
    requests = models.BigIntegerField()
    base_nanos = models.BigIntegerField()
    charge_nanos = models.BigIntegerField()
    loss_nanos = models.BigIntegerField()
    dropped_at = models.DateTimeField(default=clock.now)

    class Meta:
        triggers = [APPEND_ONLY]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"
