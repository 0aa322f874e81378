"""What must stand at Stripe before anybody can pay: products, prices, the portal, our webhook.

Each step compares what is there with what should be and changes the difference, so it may be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings

from aggregator.lib import ids
from billing import plans
from billing.core.money import nanos_of_cents, show_usd, whole_cents
from billing.models import Plan
from billing.payments import inbox
from billing.stripe_client import catalog, door

SOLD = ("pro", "business")
"""Plans that one subscribes to; Free costs nothing, Production is agreed and invoiced."""


class BadSetting(ValueError):
    """What is to be made at Stripe does not fit what is there, or our settings."""


@dataclass(frozen=True, slots=True)
class Step:
    """`says` what was done, or would be; `changes` whether it is anything."""

    changes: bool
    says: str
    secret: str = ""
    """A signing secret that Stripe tells this once."""


def run(*, webhook: bool, dry: bool = False) -> Iterator[Step]:
    """Every step, done as it is asked for; with `dry` nothing is written.

    `webhook` asks for the endpoint, which the simulated Stripe does without: it is told where to send.

    Raises BadSetting, StripeUnreachable, StripeRefused.
    """
    yield _account()
    current = catalog.prices(SOLD)
    for slug in SOLD:
        plan = plans.current(slug)
        yield _product(plan, dry=dry)
        yield _price(plan, current.get(slug), dry=dry)
    yield _portal(dry=dry)
    if webhook:
        yield _webhook(dry=dry)


def webhook_url() -> str:
    return f"{settings.PUBLIC_URL}/hooks/stripe"


def _account() -> Step:
    found = catalog.account()
    mode = "live" if door.is_live() else "test"
    if found.currency != "usd":
        raise BadSetting(f"account {found.id} settles in {found.currency}, not in usd")
    charging = "" if found.may_charge else "; it may not take payments yet"
    return Step(False, f"account {found.id} ({found.country}), {mode} mode{charging}")


def _product(plan: Plan, *, dry: bool) -> Step:
    name = f"Fairlead {plan.name}"
    product_id = _product_id(plan.slug)
    there = catalog.product(product_id)
    if there is None:
        if not dry:
            catalog.create_product(product_id, name, key=f"setup-{product_id}-{plan.pk}")
        return Step(True, f"make product {product_id}")
    if (there.name, there.active) != (name, True):
        if not dry:
            catalog.update_product(product_id, name, key=_once())
        return Step(True, f"change product {product_id}: {name}, for sale")
    return Step(False, f"product {product_id} stands")


def _price(plan: Plan, there: catalog.PriceThere | None, *, dry: bool) -> Step:
    """The key names the price that is replaced, so that going back to an old amount is another write."""
    nanos = plan.monthly_nanos or 0
    cents = whole_cents(nanos)
    if not cents or nanos_of_cents(cents) != nanos:
        raise BadSetting(f"the {plan.name} plan's {show_usd(nanos)} a month is not a price in whole cents")
    product_id = _product_id(plan.slug)
    told = f"{catalog.lookup_key(plan.slug)} at {show_usd(nanos)} a month"
    if there is not None and (there.product, there.cents, there.currency) == (product_id, cents, "usd"):
        return Step(False, f"price {told} stands")
    if not dry:
        key = f"setup-price-{plan.slug}-{plan.pk}-{cents}-{there.id if there else 'first'}"
        catalog.create_price(plan.slug, product_id, cents, key=key)
    return Step(True, f"make price {told}" + (f" in place of {there.id}" if there else ""))


def _portal(*, dry: bool) -> Step:
    if catalog.portal_configuration() is not None:
        return Step(False, "the portal's settings stand")
    if not dry:
        catalog.create_portal_configuration(return_url=f"{settings.PUBLIC_URL}/billing", key=_once())
    return Step(True, "make the portal's settings")


def _webhook(*, dry: bool) -> Step:
    url = webhook_url()
    there = next((each for each in catalog.endpoints() if each.url == url), None)
    if there is None:
        made = None if dry else catalog.create_endpoint(url, inbox.TYPES, key=_once())
        return Step(True, f"make a webhook endpoint for {url}", secret=made.secret if made else "")
    if there.types != frozenset(inbox.TYPES) or not there.enabled:
        if not dry:
            catalog.update_endpoint(there.id, inbox.TYPES, key=_once())
        return Step(True, f"have {len(inbox.TYPES)} types of events sent to {url}")
    return Step(False, f"the webhook endpoint for {url} stands")


def _product_id(slug: str) -> str:
    return f"fairlead_{slug}"


def _once() -> str:
    """For a write that may be repeated: it sets what should be, or was looked for just before."""
    return f"setup-{ids.uuid7()}"
