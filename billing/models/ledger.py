"""The double-entry ledger: accounts, postings, entries, and how far they are proven."""

from __future__ import annotations

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q

from aggregator.lib import clock
from billing.core import chart
from billing.core.money import MOST_NANOS
from billing.models.guards import APPEND_ONLY, balanced


class Account(models.Model):
    """A ledger account; `billing.core.chart` names the kinds. One of ours, or one organization's."""

    kind = models.TextField()
    organization = models.ForeignKey(
        "accounts.Organization", on_delete=models.PROTECT, null=True, related_name="+"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "organization"], name="ledger_accounts_once", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return self.kind if self.organization is None else f"{self.kind} of {self.organization}"


class Posting(models.Model):
    """One balanced set of entries and what caused it; (kind, source id) is unique for ever."""

    kind = models.TextField()
    source = models.TextField()
    source_id = models.TextField()
    organization = models.ForeignKey(
        "accounts.Organization", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    note = models.TextField(default="")
    expires_at = models.DateTimeField(null=True)
    """When the credit that it gives ends; promotions alone may have one."""
    from_posting = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    """Whose credit it takes first, or which posting it reverses."""
    chain_index = models.BigIntegerField()
    """Its place among the postings of its organization, from 1."""
    chain_hash = models.BinaryField()
    """SHA-256 over the hash of the one before and what this one says; see `billing.core.chain`."""
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "source_id"], name="postings_once"),
            models.UniqueConstraint(fields=["organization", "chain_index"], name="postings_chain"),
            models.UniqueConstraint(
                fields=["from_posting"], condition=Q(kind__in=chart.REVERSALS), name="postings_reversed_once"
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-id"], name="postings_organization"),
            # An organization has a posting of usage for every busy second; the others are few.
            models.Index(
                fields=["organization", "-id"], condition=~Q(kind="usage"), name="postings_movements"
            ),
            models.Index(fields=["created_at"], condition=~Q(kind="usage"), name="postings_movements_at"),
            # They are written in the order of time: a few pages tell where the last hours, or a month, lie.
            BrinIndex(fields=["created_at"], autosummarize=True, name="postings_created_at"),
        ]
        triggers = [APPEND_ONLY, balanced("NEW.id")]

    def __str__(self) -> str:
        return f"{self.kind} {self.source_id}"


class Entry(models.Model):
    """One line of a posting. Positive adds to the account, negative takes from it."""

    posting = models.ForeignKey(Posting, on_delete=models.PROTECT, related_name="entries", db_index=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    nanos = models.BigIntegerField()

    class Meta:
        verbose_name_plural = "entries"
        constraints = [
            models.CheckConstraint(
                condition=~Q(nanos=0) & Q(nanos__gte=-MOST_NANOS, nanos__lte=MOST_NANOS), name="entries_nanos"
            ),
            models.UniqueConstraint(fields=["posting", "account"], name="entries_account_once"),
        ]
        triggers = [APPEND_ONLY, balanced("NEW.posting_id")]

    def __str__(self) -> str:
        return f"{self.account}: {self.nanos}"


class ProvenSum(models.Model):
    """What the entries of an account came to up to a posting, when they were last proven."""

    account = models.OneToOneField(Account, on_delete=models.PROTECT, primary_key=True, related_name="+")
    posting_id = models.BigIntegerField()
    """The highest of all rows says how far every account is summed: of others nothing was newer."""
    nanos = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.account} up to posting {self.posting_id}: {self.nanos}"
