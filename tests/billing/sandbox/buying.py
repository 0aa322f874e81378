"""What one does with the simulated Stripe again and again: a customer, a card, a checkout, a charge."""

from __future__ import annotations

import stripe

from tests.billing import stripe_stand

STAND = stripe_stand.running()
CLIENT = STAND.client(max_network_retries=0)
V1 = CLIENT.v1


def customer(**more: object) -> stripe.Customer:
    return V1.customers.create({"email": "pat@example.com", "metadata": {"organization": "7"}, **more})


def card(owner: stripe.Customer, name: str = "pm_card_visa") -> stripe.PaymentMethod:
    return V1.payment_methods.attach(name, {"customer": owner.id})


def checkout(mode: str = "payment", **more: object) -> stripe.checkout.Session:
    line = {"currency": "usd", "unit_amount": 2500, "product_data": {"name": "Credit"}}
    lines = [] if mode == "setup" else [{"quantity": 1, "price_data": line}]
    more |= {"currency": "usd"} if mode == "setup" else {}
    return V1.checkout.sessions.create(
        {
            "mode": mode,
            "success_url": "http://shop.invalid/ok?session={CHECKOUT_SESSION_ID}",
            "cancel_url": "http://shop.invalid/no",
            "line_items": lines,
            **more,
        }
    )


def charge(owner: stripe.Customer, method: str, amount: int = 1000, key: str = "") -> stripe.PaymentIntent:
    return V1.payment_intents.create(
        {
            "amount": amount,
            "currency": "usd",
            "customer": owner.id,
            "payment_method": method,
            "confirm": True,
            "off_session": True,
        },
        {"idempotency_key": key} if key else {},
    )
