"""The hosted pages of the simulated Stripe that are about subscriptions: checkout and portal."""

from __future__ import annotations

import pytest
import stripe

from tests.billing.sandbox.shop import STAND, V1, Shop, invoices


@pytest.fixture(autouse=True)
def _anew() -> None:
    STAND.reset()


def test_a_person_subscribes_after_a_decline_and_3d_secure():
    shop = Shop()
    made = V1.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": shop.customer.id,
            "line_items": [{"price": shop.pro.id, "quantity": 1}],
            "subscription_data": {"metadata": {"plan": "pro"}},
            "success_url": "http://shop.invalid/ok",
            "cancel_url": "http://shop.invalid/no",
        }
    )

    assert STAND.pay(made.url, "4000000000000341").status_code == 402
    assert V1.checkout.sessions.retrieve(made.id).subscription is None
    STAND.authenticate(STAND.pay(made.url, "4000002760003184").headers["location"])

    done = V1.checkout.sessions.retrieve(made.id, {"expand": ["subscription.default_payment_method"]})
    assert (done.status, done.payment_status, done.subscription.status) == ("complete", "paid", "active")
    assert done.subscription.metadata.to_dict() == {"plan": "pro"}
    assert done.subscription.default_payment_method.card.last4 == "3184"
    assert invoices(shop) == [("subscription_create", "paid", 2000)]


def test_a_portal_offers_what_its_configuration_allows():
    shop = Shop()
    made = shop.subscribe()
    yes = {"enabled": True}
    settings = V1.billing_portal.configurations.create(
        {
            "features": {
                "payment_method_update": yes,
                "invoice_history": yes,
                "subscription_cancel": {"enabled": True, "mode": "at_period_end"},
            },
            "default_return_url": "http://shop.invalid/billing",
            "metadata": {"app": "shop"},
        }
    )
    session = V1.billing_portal.sessions.create({"customer": shop.customer.id, "configuration": settings.id})

    page = STAND.open(session.url).text
    for said in (
        "no real money",
        "Pro, $20.00",
        "Visa ending in 4242",
        "http://shop.invalid/billing",
        "paid",
    ):
        assert said in page
    STAND.submit(session.url, action="cancel", id=made.id)
    assert V1.subscriptions.retrieve(made.id).cancel_at_period_end
    STAND.submit(session.url, action="resume", id=made.id)
    assert not V1.subscriptions.retrieve(made.id).cancel_at_period_end

    STAND.submit(session.url, action="add", number="5555555555554444", expiry="1/40", cvc="999")
    second, first = V1.customers.payment_methods.list(shop.customer.id).data
    STAND.submit(session.url, action="default", id=second.id)
    STAND.submit(session.url, action="remove", id=first.id)
    assert V1.customers.retrieve(shop.customer.id).invoice_settings.default_payment_method == second.id
    assert [each.id for each in V1.customers.payment_methods.list(shop.customer.id).data] == [second.id]


def test_a_portal_refuses_what_is_not_allowed_or_another_customers():
    shop, other = Shop(), Shop()
    theirs = other.subscribe()
    for allowed in (True, False):
        settings = V1.billing_portal.configurations.create(
            {"features": {"subscription_cancel": {"enabled": allowed}}}
        )
        session = V1.billing_portal.sessions.create(
            {"customer": shop.customer.id, "configuration": settings.id}
        )
        assert STAND.submit(session.url, action="cancel", id=theirs.id).status_code == 402

    assert not V1.subscriptions.retrieve(theirs.id).cancel_at_period_end
    with pytest.raises(stripe.InvalidRequestError):
        V1.billing_portal.configurations.update("bpc_nothing", {"active": False})
