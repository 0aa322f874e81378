"""What stands at Stripe once for all: account, products, prices, the portal's settings, our webhook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from billing.stripe_client.door import NotAtStripe, call, every, keyed, v1
from billing.stripe_client.shapes import id_of, metadata_of

if TYPE_CHECKING:
    import stripe

_OURS = {"made_by": "fairlead"}
_PAGE = 100


@dataclass(frozen=True, slots=True)
class AccountThere:
    id: str
    country: str
    currency: str
    """Lower case: `usd`."""
    may_charge: bool


@dataclass(frozen=True, slots=True)
class ProductThere:
    id: str
    name: str
    active: bool


@dataclass(frozen=True, slots=True)
class PriceThere:
    """A monthly price. An amount cannot be changed: another amount is another price."""

    id: str
    product: str
    cents: int
    currency: str
    lookup_key: str
    active: bool


@dataclass(frozen=True, slots=True)
class EndpointThere:
    """A webhook endpoint; `secret` is told only by the answer that made it."""

    id: str
    url: str
    types: frozenset[str]
    enabled: bool
    secret: str = ""


def account() -> AccountThere:
    """The account that the key belongs to."""
    found = call(v1().accounts.retrieve_current)
    return AccountThere(
        found.id, found.country or "", found.default_currency or "", bool(found.charges_enabled)
    )


# ── Products and prices ──────────────────────────────────────────────────────────────────────────


def lookup_key(plan: str) -> str:
    """The name under which the current monthly price of a plan is found: `plan_pro_monthly`."""
    return f"plan_{plan}_monthly"


def price(plan: str) -> PriceThere | None:
    """The current monthly price of a plan; None before `stripe_setup` has made one."""
    return prices([plan]).get(plan)


def prices(plans: Iterable[str]) -> dict[str, PriceThere]:
    """The current monthly price of each of these plans that has one."""
    by_key = {lookup_key(plan): plan for plan in plans}
    params: stripe.params.PriceListParams = {"lookup_keys": list(by_key), "active": True, "limit": _PAGE}
    found = (_price(each) for each in every(call(v1().prices.list, params)))
    return {by_key[each.lookup_key]: each for each in found if each.lookup_key in by_key}


def product(product_id: str) -> ProductThere | None:
    try:
        found = call(v1().products.retrieve, product_id)
    except NotAtStripe:
        return None
    return ProductThere(found.id, found.name, bool(found.active))


def create_product(product_id: str, name: str, *, key: str) -> None:
    params: stripe.params.ProductCreateParams = {"id": product_id, "name": name, "metadata": _OURS}
    call(v1().products.create, params, keyed(key))


def update_product(product_id: str, name: str, *, key: str) -> None:
    """Its name from now on; one that was archived is for sale again."""
    params: stripe.params.ProductUpdateParams = {"name": name, "active": True}
    call(v1().products.update, product_id, params, keyed(key))


def create_price(plan: str, product_id: str, cents: int, *, key: str) -> PriceThere:
    """A new monthly price that takes the plan's lookup key over. Running subscriptions keep theirs."""
    params: stripe.params.PriceCreateParams = {
        "product": product_id,
        "currency": "usd",
        "unit_amount": cents,
        "recurring": {"interval": "month"},
        "tax_behavior": "exclusive",
        "lookup_key": lookup_key(plan),
        "transfer_lookup_key": True,
        "metadata": {**_OURS, "plan": plan},
    }
    return _price(call(v1().prices.create, params, keyed(key)))


def _price(found: stripe.Price) -> PriceThere:
    return PriceThere(
        id=found.id,
        product=id_of(found.product),
        cents=found.unit_amount or 0,
        currency=found.currency,
        lookup_key=found.lookup_key or "",
        active=bool(found.active),
    )


# ── The portal ───────────────────────────────────────────────────────────────────────────────────


def portal_configuration() -> str | None:
    """The id of the portal's settings that are ours, if they were made."""
    params: stripe.params.billing_portal.ConfigurationListParams = {"active": True, "limit": _PAGE}
    found = every(call(v1().billing_portal.configurations.list, params))
    return next((each.id for each in found if metadata_of(each.metadata).items() >= _OURS.items()), None)


def create_portal_configuration(*, return_url: str, key: str) -> str:
    """Cards, invoices and the end of a subscription; another plan is chosen on our own page."""
    params: stripe.params.billing_portal.ConfigurationCreateParams = {
        "default_return_url": return_url,
        "features": {
            "customer_update": {"enabled": True, "allowed_updates": ["email", "address", "tax_id"]},
            "invoice_history": {"enabled": True},
            "payment_method_update": {"enabled": True},
            "subscription_cancel": {"enabled": True, "mode": "at_period_end"},
            "subscription_update": {"enabled": False},
        },
        "metadata": _OURS,
    }
    return call(v1().billing_portal.configurations.create, params, keyed(key)).id


# ── The webhook ──────────────────────────────────────────────────────────────────────────────────


def endpoints() -> list[EndpointThere]:
    """All webhook endpoints of the account."""
    params: stripe.params.WebhookEndpointListParams = {"limit": _PAGE}
    return [_endpoint(each) for each in every(call(v1().webhook_endpoints.list, params))]


def create_endpoint(url: str, types: Sequence[Any], *, key: str) -> EndpointThere:
    """With the signing secret, which Stripe tells this once."""
    params: stripe.params.WebhookEndpointCreateParams = {
        "url": url,
        "enabled_events": list(types),
        "metadata": _OURS,
    }
    return _endpoint(call(v1().webhook_endpoints.create, params, keyed(key)))


def update_endpoint(endpoint_id: str, types: Sequence[Any], *, key: str) -> None:
    """Have these types delivered from now on; one that was switched off is on again."""
    params: stripe.params.WebhookEndpointUpdateParams = {"enabled_events": list(types), "disabled": False}
    call(v1().webhook_endpoints.update, endpoint_id, params, keyed(key))


def _endpoint(found: stripe.WebhookEndpoint) -> EndpointThere:
    secret = getattr(found, "secret", None)
    return EndpointThere(
        found.id, found.url, frozenset(found.enabled_events), found.status == "enabled", secret or ""
    )
