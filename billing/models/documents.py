"""Statements, invoices and credit notes as they were issued: numbered without a gap, never changed."""

from __future__ import annotations

import pgtrigger
from django.db import models
from django.db.models import Q

from accounts.owned import Owned
from aggregator.lib import clock, ids


class Document(Owned):
    """One issued document. Afterwards nothing of it changes: its PDF is added, and when it was mailed."""

    class Kind(models.TextChoices):
        STATEMENT = "statement", "Statement"
        INVOICE = "invoice", "Invoice"
        CREDIT_NOTE = "credit_note", "Credit note"

    class Purpose(models.TextChoices):
        MONTH = "month"
        SUBSCRIPTION = "subscription"
        POSTPAID = "postpaid"
        CORRECTION = "correction"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    kind = models.TextField(choices=Kind.choices)
    purpose = models.TextField(choices=Purpose.choices)
    number = models.TextField(unique=True)
    month = models.DateField(null=True)
    stripe_invoice = models.ForeignKey(
        "billing.StripeInvoice", null=True, on_delete=models.PROTECT, related_name="documents"
    )
    corrects = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="corrections")
    content = models.JSONField()
    """All that it says; see `billing.documents`."""
    total_nanos = models.BigIntegerField()
    cents = models.BigIntegerField(null=True)
    """What an invoice asks for, without tax."""
    tax_cents = models.BigIntegerField(default=0)
    issued_at = models.DateTimeField(default=clock.now)
    pdf = models.BinaryField(null=True)
    """As it was first made, for ever."""
    emailed_at = models.DateTimeField(null=True)

    class Meta(Owned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "month"],
                condition=Q(purpose__in=["month", "postpaid"]),
                name="document_of_month_once",
            ),
            models.UniqueConstraint(
                fields=["stripe_invoice", "kind"],
                condition=Q(corrects=None),
                name="document_of_stripe_invoice_once",
            ),
            models.CheckConstraint(
                condition=Q(kind="credit_note", purpose="correction", corrects__isnull=False)
                | Q(kind__in=["statement", "invoice"], corrects=None)
                & Q(purpose__in=["month", "subscription", "postpaid"]),
                name="document_kind",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-issued_at", "-id"], name="document_newest"),
            models.Index(fields=["issued_at"], name="document_issued"),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="issued_once",
                operation=pgtrigger.Update | pgtrigger.Delete,
                when=pgtrigger.Before,
                func="""
IF TG_OP = 'UPDATE' AND (to_jsonb(OLD) - 'pdf' - 'emailed_at') = (to_jsonb(NEW) - 'pdf' - 'emailed_at')
   AND (OLD.pdf IS NULL OR OLD.pdf = NEW.pdf)
   AND (OLD.emailed_at IS NULL OR OLD.emailed_at = NEW.emailed_at) THEN
    RETURN NEW;
END IF;
RAISE EXCEPTION 'an issued document never changes' USING ERRCODE = 'check_violation';
""",
            )
        ]

    def __str__(self) -> str:
        return self.number


class BillingProfile(Owned):
    """Who an organization says that its documents are for; a document keeps what it said then."""

    organization = models.OneToOneField(
        "accounts.Organization", on_delete=models.PROTECT, primary_key=True, related_name="+"
    )
    name = models.CharField(max_length=200, default="", blank=True)
    """Empty: the organization's."""
    address = models.TextField(max_length=500, default="", blank=True)
    """A line each."""
    tax_id = models.CharField(max_length=40, default="", blank=True)
    reference = models.CharField(max_length=60, default="", blank=True)
    """The customer's own, such as the number of a purchase order."""
    email = models.EmailField(default="", blank=True)
    """Where documents are sent once it is confirmed; empty: to those who look after billing."""
    email_confirmed_at = models.DateTimeField(null=True)
    """When somebody followed the link that was sent there."""
    changed_at = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return self.name or str(self.organization_id)


class DocumentNumber(models.Model):
    """The last number given in a series and year; locked while the next is given, so none is left out."""

    series = models.TextField()
    year = models.SmallIntegerField()
    last = models.IntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["series", "year"], name="document_number_once")]

    def __str__(self) -> str:
        return f"{self.series}-{self.year}"
