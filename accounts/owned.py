"""Rows that belong to one organization, reachable only through it.

`Thing.objects.of(organization)` is the everyday door. `Thing.objects` alone refuses to answer, so a
forgotten filter is a crash in a test and never another organization's data on a page. `unscoped` is
the exception, by a name that a reviewer (and a test) can find.
"""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import models

M = TypeVar("M", bound=models.Model)


class OrganizationMissing(RuntimeError):
    """Rows of an organization were asked for without saying which organization."""


class OwnedManager(models.Manager[M]):
    """Answers only for a named organization."""

    def of(self, organization: models.Model | int) -> models.QuerySet[M]:
        """The rows of this organization (an `Organization` or its id)."""
        owner = organization if isinstance(organization, int) else organization.pk
        if owner is None:
            raise OrganizationMissing(f"{self.model.__name__}: the organization is not saved")
        return super().get_queryset().filter(organization_id=owner)

    def create(self, **values: Any) -> M:
        """Add a row; the organization must be among the values."""
        if values.get("organization") is None and values.get("organization_id") is None:
            raise OrganizationMissing(f"{self.model.__name__}: a row needs its organization")
        row = self.model(**values)
        row.save(force_insert=True, using=self.db)
        return row

    def get_queryset(self) -> models.QuerySet[M]:
        raise OrganizationMissing(f"{self.model.__name__}.objects needs .of(organization)")


class Owned(models.Model):
    """Base of every row that belongs to an organization."""

    organization = models.ForeignKey("accounts.Organization", on_delete=models.PROTECT, related_name="+")

    # The first manager is the one that Django's own machinery uses (admin, constraints, deletion).
    unscoped = models.Manager()
    objects = OwnedManager()

    class Meta:
        abstract = True
        default_manager_name = "unscoped"
        base_manager_name = "unscoped"
