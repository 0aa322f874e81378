"""What comes and goes beside money: Stripe's events, letters to customers, alerts to operators."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from accounts.owned import Owned
from aggregator.lib import clock, ids


class StripeEvent(models.Model):
    """An event of Stripe, stored once whoever brought it. It is a signal to look, never a source of facts."""

    id = models.TextField(primary_key=True)
    """`evt_…`"""
    type = models.TextField()
    object_id = models.TextField(default="")
    payload = models.JSONField()
    source = models.TextField()
    """`webhook` or `pull`."""
    created_at = models.DateTimeField()
    """By Stripe's clock."""
    received_at = models.DateTimeField(default=clock.now)
    tries = models.IntegerField(default=0)
    not_before = models.DateTimeField(default=clock.now)
    """When it may be tried again."""
    handled_at = models.DateTimeField(null=True)
    outcome = models.TextField(default="")
    """What came of it, or why it was left alone; of one that waits, the last error."""

    class Meta:
        indexes = [
            models.Index(fields=["not_before"], condition=Q(handled_at__isnull=True), name="events_waiting"),
            models.Index(fields=["-received_at"], name="events_received"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"


class Letter(Owned):
    """An e-mail to people of an organization; one for each kind and subject, whoever asks for it again."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    kind = models.TextField()
    """Names its template: `templates/emails/<kind>.txt`."""
    subject_id = models.TextField()
    to = ArrayField(models.EmailField())
    context = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=clock.now)
    sent_at = models.DateTimeField(null=True)

    class Meta(Owned.Meta):
        constraints = [models.UniqueConstraint(fields=["kind", "subject_id"], name="letters_once")]
        indexes = [models.Index(fields=["created_at"], condition=Q(sent_at=None), name="letters_waiting")]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject_id}"


class Alert(models.Model):
    """Something that an operator must look at; one row for each kind and subject until it is resolved."""

    kind = models.TextField()
    subject = models.TextField()
    says = models.TextField()
    organization = models.ForeignKey(
        "accounts.Organization", on_delete=models.PROTECT, null=True, related_name="+"
    )
    count = models.IntegerField(default=1)
    raised_at = models.DateTimeField(default=clock.now)
    last_at = models.DateTimeField(default=clock.now)
    mailed_at = models.DateTimeField(null=True)
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject"], condition=Q(resolved_at__isnull=True), name="alerts_one_open"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}"


class Inquiry(models.Model):
    """What somebody wrote to us from the contact page; operators get it by mail, and it stays here."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    name = models.CharField(max_length=100)
    email = models.EmailField()
    company = models.CharField(max_length=100, blank=True)
    spend = models.CharField(max_length=40, blank=True)
    """What they expect to spend a month, in the words that the page offers."""
    text = models.TextField()
    organization = models.ForeignKey(
        "accounts.Organization", on_delete=models.PROTECT, null=True, related_name="+"
    )
    """Of the person, where one was signed in."""
    created_at = models.DateTimeField(default=clock.now)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "inquiries"
        indexes = [models.Index(fields=["created_at"], condition=Q(sent_at=None), name="inquiries_waiting")]

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>"


class JobRun(models.Model):
    """When a job last came to its end, so that its silence is noticed."""

    name = models.TextField(primary_key=True)
    ended_at = models.DateTimeField()
    note = models.TextField(default="")

    def __str__(self) -> str:
        return self.name
