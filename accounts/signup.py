"""A person becomes a customer: a user, their organization, and their role of owner in it."""

from __future__ import annotations

from typing import Any, Final

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.text import slugify

from accounts import audit, invitations, members
from accounts.core import roles
from accounts.models import Membership, Organization, User
from aggregator.lib import ids, jobs
from aggregator.lib.errors import Refusal

INVITED: Final = "invited"
"""Where a session keeps the invitation whose link was opened in it."""
MOST_OPENED: Final = 20
"""Organizations that one person may open by themselves."""
_SLUG_BASE: Final = 48


class Adapter(DefaultAccountAdapter):
    """Tells allauth what signing up means here."""

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        """Whoever signs up from an invitation joins that organization; anybody else opens their own."""
        with transaction.atomic():
            saved: User = super().save_user(request, user, form, commit=commit)
            if commit and not _is_invited(request, saved):
                open_organization(saved)
        return saved

    def post_login(self, request: HttpRequest, user: User, **rest: Any) -> HttpResponse:
        """Signed in, with every factor asked for. Who came from an invitation joins now."""
        with transaction.atomic():
            if not _tell_organizations(user, "member.signed_in"):
                _join_or_open(request, user)
        response: HttpResponse = super().post_login(request, user, **rest)
        return response

    def send_notification_mail(self, template_prefix: str, user: User, *rest: Any, **more: Any) -> None:
        """Somebody's way of signing in has changed: they are written to, and it is in the log."""
        _tell_organizations(user, f"security.{template_prefix.rpartition('/')[2]}")
        super().send_notification_mail(template_prefix, user, *rest, **more)


def _tell_organizations(user: User, verb: str) -> int:
    """Write what a person did into the log of each of their organizations; how many these are."""
    rows = Membership.unscoped.filter(user=user).order_by("pk")
    return len([audit.record(held.organization_id, verb, by=user, object=user.email) for held in rows])


def _is_invited(request: HttpRequest, user: User) -> bool:
    found = invitations.remembered(request.session.get(INVITED), user.email)
    return found is not None and invitations.state(found) == invitations.OPEN


def _join_or_open(request: HttpRequest, user: User) -> None:
    """The newcomer's organization: the one that invited them, or their own if that was taken back."""
    found = invitations.remembered(request.session.pop(INVITED, None), user.email)
    if found is None:
        return
    try:
        invitations.accept(found, user)
    except Refusal:
        open_organization(user)


def rename_person(user: User, name: str) -> None:
    """How the person is called; empty: by the e-mail."""
    user.name = name.strip()
    user.save(update_fields=["name"])


def open_organization(owner: User, *, slug: str | None = None, name: str | None = None) -> Organization:
    """Make an organization with its owner. Without a slug, one is made of its name or the owner's e-mail.

    The job `billing.open_wallet` gives it a wallet once the transaction commits.
    """
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=owner.pk)
        opened = Organization.objects.filter(opened_by=owner).count()
        if opened >= MOST_OPENED:
            raise Refusal(
                "too_many_organizations", f"You have opened {opened} organizations. Write to us for more."
            )
        words = name or owner.email.partition("@")[0]
        organization = _add(slug, name) if slug else _add_with_free_slug(words, name)
        organization.opened_by, organization.is_further = owner, opened > 0
        organization.save(update_fields=["opened_by", "is_further"])
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


def set_rules(held: Membership, *, two_factor_required: bool) -> None:
    """Whether members need a second factor to reach the organization's pages."""
    with members.acting(held, roles.ORGANIZATION_EDIT) as me:
        organization = me.organization
        before = organization.two_factor_required
        if before == two_factor_required:
            return
        if two_factor_required and not members.with_second_factor([me.user_id]):
            raise Refusal(
                "own_factor_first", "Add a second factor of your own first, or you lock yourself out."
            )
        organization.two_factor_required = two_factor_required
        organization.save(update_fields=["two_factor_required"])
        audit.record(
            organization,
            "organization.rules_changed",
            by=me.user,
            object=organization.slug,
            detail={"two_factor_required": [before, two_factor_required]},
        )


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


def _add_with_free_slug(words: str, name: str | None) -> Organization:
    """`ada` of `Ada`; with a random tail when another organization has it."""
    base = slugify(words)[:_SLUG_BASE].strip("-") or "organization"
    if not Organization.objects.filter(slug=base).exists():
        try:
            with transaction.atomic():
                return _add(base, name)
        except IntegrityError:
            pass  # another sign-up took it between the two statements
    return _add(f"{base}-{ids.base62(8).lower()}", name or base)
