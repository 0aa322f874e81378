"""Subscriptions at Stripe: begun on a payment page, changed at once or by a schedule, ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from billing.stripe_client.door import call, every, keyed, v1
from billing.stripe_client.shapes import id_of, metadata_of, time_of

if TYPE_CHECKING:
    import stripe

_PAGE = 100


@dataclass(frozen=True, slots=True)
class PriceThere:
    """What a plan costs a month, as Stripe will charge it."""

    id: str
    plan: str
    """The slug that its lookup key or its metadata names; empty when it is none of ours."""
    cents: int
    currency: str


@dataclass(frozen=True, slots=True)
class SignUp:
    """A payment page on which a subscription begins."""

    id: str
    status: str
    """`open`, `complete` or `expired`."""
    url: str
    subscription: str
    """`sub_…` once it is complete, else empty."""
    customer: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SubscriptionThere:
    """A subscription as Stripe has it now."""

    id: str
    status: str
    """Stripe's word: `incomplete`, `active`, `past_due`, `unpaid`, `canceled`, …"""
    customer: str
    item: str
    price: PriceThere
    period_start: datetime
    period_end: datetime
    ends_at: datetime | None
    """When it is canceled by itself, if that was asked for."""
    schedule: str
    latest_invoice: str
    created: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        return self.status in ("canceled", "incomplete_expired")


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a subscription will become; `price` of the last phase is `price_…`."""

    id: str
    status: str
    started: datetime
    """When its first phase began."""
    prices: tuple[str, ...]
    """Of each phase in turn."""

    @property
    def is_in_force(self) -> bool:
        return self.status in ("active", "not_started")


def price(price_id: str) -> PriceThere:
    """Raises NotAtStripe."""
    return _price(call(v1().prices.retrieve, price_id))


def begin(
    *, customer: str, price: str, urls: tuple[str, str], marks: Mapping[str, str], taxed: bool, key: str
) -> SignUp:
    """A payment page for a subscription; `urls` are where it leads when paid and when abandoned.

    `marks` become the metadata of page and subscription.
    """
    params: stripe.params.checkout.SessionCreateParams = {
        "mode": "subscription",
        "customer": customer,
        "line_items": [{"price": price, "quantity": 1}],
        "success_url": urls[0],
        "cancel_url": urls[1],
        "metadata": dict(marks),
        "subscription_data": {"metadata": dict(marks)},
    }
    if taxed:
        params["automatic_tax"] = {"enabled": True}
        params["billing_address_collection"] = "required"
        params["customer_update"] = {"address": "auto"}
    return _sign_up(call(v1().checkout.sessions.create, params, keyed(key)))


def sign_up(session_id: str) -> SignUp:
    """Raises NotAtStripe."""
    return _sign_up(call(v1().checkout.sessions.retrieve, session_id))


def abandon(session_id: str, *, key: str) -> None:
    """Nobody can pay on this page any more. Raises StripeRefused when it is paid or expired already."""
    call(v1().checkout.sessions.expire, session_id, {}, keyed(key))


def retrieve(subscription_id: str) -> SubscriptionThere:
    """Raises NotAtStripe."""
    return _subscription(call(v1().subscriptions.retrieve, subscription_id))


def of_customer(customer: str) -> list[SubscriptionThere]:
    """Every subscription that the customer ever had, the newest first."""
    found = call(v1().subscriptions.list, {"customer": customer, "status": "all", "limit": _PAGE})
    return [_subscription(each) for each in every(found)]


def upgrade(there: SubscriptionThere, price: str, *, key: str) -> SubscriptionThere:
    """Change what is paid at once; the rest of the period is charged now, or nothing changes.

    Raises CardDeclined.
    """
    params: stripe.params.SubscriptionUpdateParams = {
        "items": [{"id": there.item, "price": price}],
        "proration_behavior": "always_invoice",
        "payment_behavior": "error_if_incomplete",
    }
    if there.ends_at is not None:
        params["cancel_at_period_end"] = False
    return _subscription(call(v1().subscriptions.update, there.id, params, keyed(key)))


def end_with_period(subscription_id: str, wanted: bool, *, key: str) -> SubscriptionThere:
    """Cancel it when its period is over, or think better of it."""
    params: stripe.params.SubscriptionUpdateParams = {"cancel_at_period_end": wanted}
    return _subscription(call(v1().subscriptions.update, subscription_id, params, keyed(key)))


def cancel(subscription_id: str, *, key: str) -> SubscriptionThere:
    """End it now; nothing is given back. Raises StripeRefused when it has ended already."""
    params: stripe.params.SubscriptionCancelParams = {"invoice_now": False, "prorate": False}
    return _subscription(call(v1().subscriptions.cancel, subscription_id, params, keyed(key)))


def schedule(schedule_id: str) -> Schedule:
    """Raises NotAtStripe."""
    return _schedule(call(v1().subscription_schedules.retrieve, schedule_id))


def scheduled(subscription_id: str, *, key: str) -> Schedule:
    """A new schedule that goes on with the subscription as it is."""
    return _schedule(
        call(v1().subscription_schedules.create, {"from_subscription": subscription_id}, keyed(key))
    )


def at_period_end(schedule: Schedule, there: SubscriptionThere, price: str, *, key: str) -> Schedule:
    """The present price until the period is over, then another; after a month of it the schedule lets go."""
    now: stripe.params.SubscriptionScheduleUpdateParamsPhase = {
        "items": [{"price": there.price.id, "quantity": 1}],
        "start_date": int(schedule.started.timestamp()),
        "end_date": int(there.period_end.timestamp()),
        "proration_behavior": "none",
    }
    then: stripe.params.SubscriptionScheduleUpdateParamsPhase = {
        "items": [{"price": price, "quantity": 1}],
        "duration": {"interval": "month", "interval_count": 1},
        "proration_behavior": "none",
    }
    params: stripe.params.SubscriptionScheduleUpdateParams = {
        "phases": [now, then],
        "end_behavior": "release",
        "proration_behavior": "none",
    }
    return _schedule(call(v1().subscription_schedules.update, schedule.id, params, keyed(key)))


def release(schedule_id: str, *, key: str) -> None:
    """Let the subscription go on as it is. Raises StripeRefused when the schedule is over already."""
    call(v1().subscription_schedules.release, schedule_id, {}, keyed(key))


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _price(found: stripe.Price) -> PriceThere:
    key = found.lookup_key or ""
    named = key.removeprefix("plan_").removesuffix("_monthly") if key.startswith("plan_") else ""
    return PriceThere(
        id=found.id,
        plan=named or metadata_of(found.metadata).get("plan", ""),
        cents=found.unit_amount or 0,
        currency=found.currency,
    )


def _sign_up(found: stripe.checkout.Session) -> SignUp:
    return SignUp(
        id=found.id,
        status=found.status or "",
        url=found.url or "",
        subscription=id_of(found.subscription),
        customer=id_of(found.customer),
        metadata=metadata_of(found.metadata),
    )


def _subscription(found: stripe.Subscription) -> SubscriptionThere:
    item = found["items"].data[0]
    ends = found.cancel_at
    if ends is None and found.cancel_at_period_end:
        ends = item.current_period_end
    return SubscriptionThere(
        id=found.id,
        status=found.status,
        customer=id_of(found.customer),
        item=item.id,
        price=_price(item.price),
        period_start=_time(item.current_period_start),
        period_end=_time(item.current_period_end),
        ends_at=time_of(ends),
        schedule=id_of(found.schedule),
        latest_invoice=id_of(found.latest_invoice),
        created=_time(found.created),
        metadata=metadata_of(found.metadata),
    )


def _schedule(found: stripe.SubscriptionSchedule) -> Schedule:
    phases: Sequence[Any] = found.phases
    return Schedule(
        id=found.id,
        status=found.status,
        started=_time(phases[0].start_date),
        prices=tuple(id_of(phase["items"][0].price) for phase in phases),
    )
