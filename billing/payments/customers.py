"""Organizations as customers of Stripe: made once, their cards mirrored, the way to their portal."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import transaction

from accounts import audit
from accounts.models import Organization, User
from aggregator.lib import clock, ids
from aggregator.lib.errors import Refusal
from billing import alerts, letters
from billing.models import Card, Customer, Subscription, TopUp
from billing.stripe_client import catalog, customers
from billing.stripe_client.door import StripeUnreachable

TRIES = 12
"""How often Stripe is asked anew because others wrote down meanwhile what may be newer."""
_KEYS_ARE_KEPT = timedelta(hours=23)
"""Stripe forgets an idempotency key after a day; then it must be asked whether the call was made."""


def ensure(organization: Organization, *, email: str) -> str:
    """The organization's customer (`cus_…`), made when there is none; however many ask at once, one.

    The row is committed before Stripe is called, so a lost answer is asked for again under the same key.
    Raises StripeUnreachable, StripeRefused.
    """
    with transaction.atomic(durable=True):
        row, _ = Customer.objects.of(organization).get_or_create(
            organization=organization, defaults={"email": email}
        )
    if row.stripe_id is None:
        made = _known(row, organization) or customers.create(
            email=row.email,
            organization=organization.public_id,
            key=f"customer-{organization.public_id}",
        )
        Customer.objects.of(organization).filter(stripe_id=None).update(stripe_id=made)
        row = Customer.objects.of(organization).get()
    return str(row.stripe_id)


def email(organization: Organization, by: audit.Actor) -> str:
    """Where Stripe sends receipts: to who pays, else to who looks after billing; empty when nobody does."""
    return by.email if isinstance(by, User) else next(iter(letters.readers(organization.pk)), "")


def refuse_too_many_pages(organization: Organization) -> None:
    """Raise Refusal 429 `too_many_checkouts` when another payment page would be one too many.

    Each page is a place to try out cards, whatever it sells. The caller holds the wallet's lock, so that the
    count is the truth, and writes the row of the page in the same transaction.
    """
    hour_ago = clock.now() - timedelta(hours=1)
    bought = TopUp.objects.of(organization).filter(kind=TopUp.Kind.CHECKOUT, created_at__gt=hour_ago)
    subscribed = Subscription.objects.of(organization).filter(created_at__gt=hour_ago)
    if bought.count() + subscribed.count() >= settings.CHECKOUTS_PER_HOUR:
        raise Refusal(
            "too_many_checkouts",
            f"At most {settings.CHECKOUTS_PER_HOUR} payment pages are opened in an hour. Finish one that"
            " is open, or wait.",
            status=429,
            retry_after=3600,
        )


def refresh(customer_id: str) -> str:
    """Ask Stripe which cards the customer has and mirror them; words for the event that asked.

    A customer with cards of which none is the default gets the newest, so that invoices can be paid.
    Raises StripeUnreachable, StripeRefused.
    """
    for _ in range(TRIES):
        row = Customer.unscoped.filter(stripe_id=customer_id).first()
        if row is None:
            return "not a customer of ours"
        # Nothing is locked meanwhile: Stripe may take its time.
        there = customers.retrieve(customer_id)
        cards = [] if there.deleted else customers.cards(customer_id)
        default = _default(there, cards)
        with transaction.atomic():
            if still(row) is not None:
                _mirror(row.organization_id, cards, default)
                break
    else:
        raise StripeUnreachable(f"{customer_id} is looked at by too many at once")
    if default and default != there.default_card:
        customers.set_default_card(customer_id, default, key=f"{customer_id}-default-{default}")
    if there.deleted:
        alerts.raise_alert(
            "stripe_customer",
            customer_id,
            f"{customer_id} was deleted at Stripe: its organization cannot pay.",
            organization_id=row.organization_id,
        )
        return "deleted at Stripe"
    return f"{len(cards)} cards"


def still(row: Customer) -> Customer | None:
    """The customer, locked, for who writes down in this transaction what Stripe said since `row` was read;
    None when somebody else wrote meanwhile, maybe what is newer: then Stripe is to be asked anew."""
    now = Customer.objects.of(row.organization_id).select_for_update().get()
    if now.looks != row.looks:
        return None
    now.looks += 1
    now.save(update_fields=["looks"])
    return now


def portal_url(organization: Organization, *, return_url: str) -> str:
    """The customer's own pages at Stripe: cards, invoices, the end of a subscription. Good for minutes.

    Raises Customer.DoesNotExist, StripeUnreachable, StripeRefused.
    """
    row = Customer.objects.of(organization).exclude(stripe_id=None).get()
    return customers.portal(
        str(row.stripe_id),
        configuration=catalog.portal_configuration(),
        return_url=return_url,
        key=f"portal-{ids.uuid7()}",  # opening a portal changes nothing, so it has no row
    )


def default_card(organization_id: int) -> Card | None:
    """The card that is charged when the organization is not there to choose one."""
    return Card.objects.of(organization_id).filter(is_default=True, removed_at=None).first()


def _known(row: Customer, organization: Organization) -> str | None:
    """The customer that an earlier call made whose answer we never heard, when its key is forgotten."""
    if clock.now() - row.created_at < _KEYS_ARE_KEPT:
        return None
    return customers.find(email=row.email, organization=organization.public_id)


def _default(there: customers.CustomerThere, cards: list[customers.CardThere]) -> str:
    held = [card.id for card in cards]
    if there.default_card in held:
        return there.default_card
    return held[0] if held else ""


def _mirror(organization_id: int, cards: list[customers.CardThere], default: str) -> None:
    """Write what Stripe has; a card that it has no more stays as a row, removed."""
    rows = Card.objects.of(organization_id)
    rows.filter(is_default=True).exclude(stripe_id=default).update(is_default=False)
    rows.filter(removed_at=None).exclude(stripe_id__in=[card.id for card in cards]).update(
        removed_at=clock.now(), is_default=False
    )
    for card in cards:
        now = {
            "brand": card.brand,
            "last4": card.last4,
            "exp_month": card.exp_month,
            "exp_year": card.exp_year,
            "is_default": card.id == default,
            "removed_at": None,
        }
        rows.update_or_create(stripe_id=card.id, organization_id=organization_id, defaults=now)
