"""A person becomes a customer: a user, their organization, and their role of owner in it."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils.text import slugify

from accounts import audit, roles
from accounts.models import Membership, Organization, User
from aggregator.lib import ids, jobs

_SLUG_BASE = 48


class Adapter(DefaultAccountAdapter):
    """Tells allauth what signing up means here."""

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        with transaction.atomic():
            saved: User = super().save_user(request, user, form, commit=commit)
            if commit:
                open_organization(saved)
        return saved


def open_organization(owner: User, *, slug: str | None = None, name: str | None = None) -> Organization:
    """Make an organization with its owner. Without a slug, one is made of the owner's e-mail.

    The job `billing.open_wallet` gives it a wallet once the transaction commits.
    """
    with transaction.atomic():
        organization = _add(slug, name) if slug else _add_with_free_slug(owner.email, name)
        Membership.objects.create(organization=organization, user=owner, role=roles.OWNER)
        audit.record(organization, "organization.opened", by=owner, object=organization.slug)
        jobs.enqueue("billing.open_wallet", organization_id=organization.pk)
    return organization


def register(
    email: str, password: str, *, slug: str | None = None, name: str | None = None
) -> tuple[User, Organization]:
    """A user with a confirmed e-mail and their organization, without the web pages: for commands."""
    with transaction.atomic():
        user = User.objects.create_user(email, password)
        EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
        return user, open_organization(user, slug=slug, name=name)


def rename(organization: Organization, name: str, *, by: audit.Actor) -> None:
    """Change the organization's name; its slug and its ids stay."""
    with transaction.atomic():
        before = organization.name
        organization.name = name
        organization.save(update_fields=["name"])
        audit.record(
            organization,
            "organization.renamed",
            by=by,
            object=organization.slug,
            detail={"name": [before, name]},
        )


def _add(slug: str, name: str | None) -> Organization:
    return Organization.objects.create(slug=slug, name=name or slug)


def _add_with_free_slug(email: str, name: str | None) -> Organization:
    """`ada` of `ada@example.com`; with a random tail when another organization has it."""
    base = slugify(email.partition("@")[0])[:_SLUG_BASE].strip("-") or "organization"
    if not Organization.objects.filter(slug=base).exists():
        try:
            with transaction.atomic():
                return _add(base, name)
        except IntegrityError:
            pass  # another sign-up took it between the two statements
    return _add(f"{base}-{ids.base62(8).lower()}", name or base)
