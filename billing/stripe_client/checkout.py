"""Checkout Sessions: a page at Stripe on which a person pays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from billing.stripe_client.door import call, every, keyed, v1
from billing.stripe_client.shapes import id_of, metadata_of

if TYPE_CHECKING:
    from stripe.checkout import Session as StripeSession
    from stripe.params.checkout import SessionCreateParams


@dataclass(frozen=True, slots=True)
class Session:
    """Amounts in cents; empty texts where Stripe says nothing."""

    id: str
    mode: str
    """`payment`, `subscription` or `setup`."""
    status: str
    """`open`, `complete` or `expired`."""
    payment_status: str
    """`paid`, `unpaid` or `no_payment_required`."""
    url: str
    currency: str
    total_cents: int
    tax_cents: int
    customer: str
    payment_intent: str
    subscription: str
    setup_intent: str
    metadata: Mapping[str, str]


def create(params: SessionCreateParams, *, key: str) -> Session:
    """Make one. Raises StripeUnreachable, StripeRefused."""
    return _session(call(v1().checkout.sessions.create, params, keyed(key)))


def payment_session(
    *,
    cents: int,
    says: str,
    customer: str,
    metadata: Mapping[str, str],
    urls: tuple[str, str],
    expires_at: datetime,
    save_card: bool,
    with_tax: bool,
    key: str,
) -> Session:
    """Make one that is paid once. `urls`: after paying, and after turning back.

    Raises StripeUnreachable, StripeRefused.
    """
    params: SessionCreateParams = {
        "mode": "payment",
        "customer": customer,
        "client_reference_id": metadata["organization"],
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": "usd",
                    "unit_amount": cents,
                    "tax_behavior": "exclusive",
                    "product_data": {"name": says},
                },
            }
        ],
        "metadata": dict(metadata),
        "payment_intent_data": {"metadata": dict(metadata), "description": says},
        "success_url": urls[0],
        "cancel_url": urls[1],
        "expires_at": int(expires_at.timestamp()),
    }
    if save_card:
        params["payment_intent_data"]["setup_future_usage"] = "off_session"
    if with_tax:
        params["automatic_tax"] = {"enabled": True}
        params["billing_address_collection"] = "required"
        params["customer_update"] = {"address": "auto"}
    return create(params, key=key)


def retrieve(session_id: str) -> Session:
    """Raises StripeUnreachable, NotAtStripe, StripeRefused."""
    return _session(call(v1().checkout.sessions.retrieve, session_id))


def expire(session_id: str, *, key: str) -> Session:
    """Nobody can pay there any more. Raises StripeRefused when it is not open."""
    return _session(call(v1().checkout.sessions.expire, session_id, {}, keyed(key)))


def of_payment_intent(intent_id: str) -> Session | None:
    """The session that a payment belongs to, if it belongs to one."""
    found = call(v1().checkout.sessions.list, {"payment_intent": intent_id, "limit": 1})
    return _session(found.data[0]) if found.data else None


def of_customer(customer: str, *, since: datetime) -> Iterator[Session]:
    """The sessions that were made for a customer since then, newest first."""
    created = {"gte": int(since.timestamp())}
    found = call(v1().checkout.sessions.list, {"customer": customer, "created": created, "limit": 100})
    yield from map(_session, every(found))


def _session(told: StripeSession) -> Session:
    details = told.total_details
    return Session(
        id=told.id,
        mode=told.mode,
        status=told.status or "",
        payment_status=told.payment_status,
        url=told.url or "",
        currency=told.currency or "",
        total_cents=told.amount_total or 0,
        tax_cents=0 if details is None else details.amount_tax,
        customer=id_of(told.customer),
        payment_intent=id_of(told.payment_intent),
        subscription=id_of(told.subscription),
        setup_intent=id_of(told.setup_intent),
        metadata=metadata_of(told.metadata),
    )
