"""What is logged of calls for organizations that asked for it, and evidence of what was deleted of it."""

from __future__ import annotations

from functools import partial

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.owned import Owned
from aggregator.lib import clock, ids


class RequestLog(Owned):
    """One call's request and reply. `sealed` opens with the organization's log key, in this place alone."""

    id = models.UUIDField(primary_key=True)
    """The generation's."""
    key = models.ForeignKey("accounts.Key", on_delete=models.PROTECT, related_name="+")
    log_key = models.ForeignKey("accounts.LogKey", on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField()
    sealed = models.BinaryField()

    class Meta(Owned.Meta):
        indexes = [models.Index(fields=["organization", "at"], name="request_log_by_age")]

    def __str__(self) -> str:
        return str(self.id)


class RequestLogLoss(Owned):
    """Calls of a day, UTC, that should have been logged and were not: no room, or no key that opens."""

    day = models.DateField()
    calls = models.PositiveBigIntegerField()

    class Meta(Owned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["organization", "day"], name="one_sum_of_lost_logs_a_day")
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.calls}"


class LogDeletion(Owned):
    """What was deleted, by whom: only ever added. With `everything`, keys were destroyed as well."""

    ONE, PERIOD, EVERYTHING = "one", "period", "everything"

    public_id = models.CharField(max_length=24, unique=True, default=partial(ids.base62, 16), editable=False)
    what = models.CharField(max_length=10, choices=[(name, name) for name in (ONE, PERIOD, EVERYTHING)])
    rows = models.PositiveBigIntegerField()
    first_at = models.DateTimeField(null=True)
    last_at = models.DateTimeField(null=True)
    """Between which the deleted calls had ended; null where there was none."""
    asked_from = models.DateTimeField(null=True)
    asked_until = models.DateTimeField(null=True)
    fingerprints = ArrayField(models.CharField(max_length=64), default=list)
    """Of the keys that were destroyed: SHA-256 under a label, as the page showed it before."""
    deleted_by = models.CharField(max_length=300)
    at = models.DateTimeField(default=clock.now, editable=False)

    class Meta(Owned.Meta):
        indexes = [models.Index(fields=["organization", "-at"], name="log_deletion_by_organization")]
        triggers = [
            pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.public_id} {self.what} {self.rows}"
