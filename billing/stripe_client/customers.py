"""Customers of Stripe, the cards that it keeps for them, and the portal where they change those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from billing.stripe_client.door import call, every, keyed, v1
from billing.stripe_client.shapes import id_of, metadata_of

if TYPE_CHECKING:
    import stripe

_PAGE = 100


@dataclass(frozen=True, slots=True)
class CustomerThere:
    """A customer as Stripe has it."""

    id: str
    organization: str
    """Our organization's public id, from the metadata; empty when Stripe tells of none."""
    email: str
    default_card: str
    """`pm_…`, or empty."""
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class CardThere:
    """A saved card as Stripe has it."""

    id: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int


def create(*, email: str, organization: str, key: str) -> str:
    """Make a customer; its id. An empty `email` is none: Stripe refuses an empty text."""
    params: stripe.params.CustomerCreateParams = {
        "description": f"Organization {organization}",
        "metadata": {"organization": organization},
    }
    if email:
        params["email"] = email
    return call(v1().customers.create, params, keyed(key)).id


def update(customer_id: str, *, email: str, key: str) -> None:
    """Where Stripe sends receipts from now on."""
    params: stripe.params.CustomerUpdateParams = {"email": email}
    call(v1().customers.update, customer_id, params, keyed(key))


def set_default_card(customer_id: str, card_id: str, *, key: str) -> None:
    """The card that invoices are charged to from now on."""
    params: stripe.params.CustomerUpdateParams = {"invoice_settings": {"default_payment_method": card_id}}
    call(v1().customers.update, customer_id, params, keyed(key))


def retrieve(customer_id: str) -> CustomerThere:
    """A customer, also one that was deleted. Raises NotAtStripe."""
    return _customer(call(v1().customers.retrieve, customer_id))


def find(*, email: str, organization: str) -> str | None:
    """The oldest customer of this e-mail that was made for the organization, if there is one."""
    params: stripe.params.CustomerListParams = {"limit": _PAGE}
    if email:
        params["email"] = email
    pages = call(v1().customers.list, params)
    made = [each for each in every(pages) if _customer(each).organization == organization]
    return min(made, key=lambda each: each.created).id if made else None


def cards(customer_id: str) -> list[CardThere]:
    """Saved cards, the newest first. Raises NotAtStripe."""
    params: stripe.params.CustomerPaymentMethodListParams = {"type": "card", "limit": _PAGE}
    found = call(v1().customers.payment_methods.list, customer_id, params)
    return [
        CardThere(each.id, each.card.brand, each.card.last4, each.card.exp_month, each.card.exp_year)
        for each in every(found)
        if each.card is not None
    ]


def portal(customer_id: str, *, configuration: str | None, return_url: str, key: str) -> str:
    """The address of the customer's own pages at Stripe; good for some minutes.

    Without a `configuration` of ours it is the account's own, if one was set up.
    """
    params: stripe.params.billing_portal.SessionCreateParams = {
        "customer": customer_id,
        "return_url": return_url,
    }
    if configuration:
        params["configuration"] = configuration
    return call(v1().billing_portal.sessions.create, params, keyed(key)).url


def _customer(found: stripe.Customer) -> CustomerThere:
    if getattr(found, "deleted", False):
        return CustomerThere(found.id, "", "", "", deleted=True)
    settings = found.invoice_settings
    return CustomerThere(
        id=found.id,
        organization=metadata_of(found.metadata).get("organization", ""),
        email=found.email or "",
        default_card=id_of(settings.default_payment_method) if settings is not None else "",
    )
