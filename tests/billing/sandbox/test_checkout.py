"""The simulated Stripe as stripe-python sees it: customers, cards, and checkout by hand."""

from __future__ import annotations

import pytest
import stripe

from tests.billing.sandbox.buying import STAND, V1, card, charge, checkout, customer


@pytest.fixture(autouse=True)
def _anew() -> None:
    STAND.reset()


# ── Customers and cards ──────────────────────────────────────────────────────────────────────────


def test_a_customer_is_made_changed_and_read():
    made = customer()
    method = card(made)

    V1.customers.update(
        made.id,
        {
            "name": "Pat",
            "metadata": {"organization": "", "plan": "pro"},
            "invoice_settings": {"default_payment_method": method.id},
        },
    )
    read = V1.customers.retrieve(made.id, {"expand": ["invoice_settings.default_payment_method"]})

    assert (read.name, read.metadata.to_dict()) == ("Pat", {"plan": "pro"})
    assert read.invoice_settings.default_payment_method.card.last4 == "4242"
    assert [each.id for each in V1.customers.payment_methods.list(made.id).data] == [method.id]


def test_a_detached_card_is_nobodys_default_and_cannot_be_charged():
    made = customer()
    method = card(made)
    V1.customers.update(made.id, {"invoice_settings": {"default_payment_method": method.id}})

    V1.payment_methods.detach(method.id)

    assert V1.customers.retrieve(made.id).invoice_settings.default_payment_method is None
    with pytest.raises(stripe.InvalidRequestError):
        charge(made, method.id)


def test_another_customers_card_cannot_be_charged():
    method = card(customer())

    with pytest.raises(stripe.InvalidRequestError, match="belongs to a Customer"):
        charge(customer(), method.id)


# ── Checkout by hand ─────────────────────────────────────────────────────────────────────────────


def test_a_person_pays_and_the_session_tells_of_it():
    made = checkout(
        automatic_tax={"enabled": True},
        payment_intent_data={"metadata": {"top_up": "1"}},
        customer=customer(address={"country": "US"}).id,
    )
    assert (made.amount_subtotal, made.amount_total, made.payment_intent) == (2500, 2750, None)

    paid = STAND.pay(made.url)

    read = V1.checkout.sessions.retrieve(
        made.id, {"expand": ["payment_intent.latest_charge.balance_transaction", "line_items"]}
    )
    assert paid.headers["location"] == f"http://shop.invalid/ok?session={made.id}"
    assert (read.status, read.payment_status, read.url) == ("complete", "paid", None)
    assert read.payment_intent.metadata.to_dict() == {"top_up": "1"}
    assert read.total_details.amount_tax == 250
    assert read.payment_intent.latest_charge.balance_transaction.fee == 80 + 30
    assert read.line_items.data[0].description == "Credit"
    assert [
        each["type"] for each in STAND.events("payment_intent.succeeded", "checkout.session.completed")
    ] == [
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]


def test_a_declined_card_leaves_the_session_open_for_another():
    made = checkout()

    refused = STAND.pay(made.url, "4000 0000 0000 9995")
    assert refused.status_code == 402
    assert "insufficient funds" in refused.text
    assert V1.checkout.sessions.retrieve(made.id).status == "open"

    assert STAND.pay(made.url).status_code == 303
    charges = V1.charges.list().data
    assert [(each.status, each.failure_code) for each in charges] == [
        ("succeeded", None),
        ("failed", "card_declined"),
    ]


@pytest.mark.parametrize(("completed", "status"), [(True, "complete"), (False, "open")])
def test_3d_secure_is_completed_or_failed(completed: bool, status: str):
    made = checkout()

    step = STAND.pay(made.url, "4000002500003155")
    assert step.headers["location"] == f"/c/3ds/{made.id}"
    assert len(STAND.events("payment_intent.requires_action")) == 1
    after = STAND.authenticate(step.headers["location"], completed=completed)

    assert after.status_code == (303 if completed else 402)
    assert V1.checkout.sessions.retrieve(made.id).status == status


def test_a_saved_card_that_was_authenticated_is_charged_without_its_owner():
    owner = customer()
    made = checkout(customer=owner.id, saved_payment_method_options={"payment_method_save": "enabled"})

    STAND.authenticate(STAND.pay(made.url, "4000002500003155", save="on").headers["location"])
    (saved,) = V1.customers.payment_methods.list(owner.id).data

    assert charge(owner, saved.id).status == "succeeded"


def test_a_card_that_always_asks_is_refused_off_session():
    owner = customer()
    made = checkout("setup", customer=owner.id)
    STAND.authenticate(STAND.pay(made.url, "4000002760003184").headers["location"])
    setup = V1.setup_intents.retrieve(V1.checkout.sessions.retrieve(made.id).setup_intent)

    with pytest.raises(stripe.CardError) as refused:
        charge(owner, setup.payment_method)

    assert refused.value.code == "authentication_required"
    assert refused.value.error.payment_intent.status == "requires_payment_method"


def test_the_page_shows_what_is_bought_the_way_back_and_that_no_money_moves():
    made = checkout(automatic_tax={"enabled": True})

    page = STAND.open(made.url)

    for said in ("no real money", "Credit", "$27.50", "Tax", 'href="http://shop.invalid/no"'):
        assert said in page.text


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"number": "4242424242424241"}, "test cards"),
        ({"expiry": "12/20"}, "in the past"),
        ({"expiry": "soon"}, "incomplete"),
        ({"cvc": "1"}, "security code"),
        ({"email": "nobody"}, "e-mail"),
    ],
)
def test_what_is_mistyped_is_told_and_nothing_is_tried(typed: dict[str, str], said: str):
    made = checkout()

    answer = STAND.submit(
        made.url, **{"number": "4242424242424242", "expiry": "12/34", "cvc": "123", "email": "a@b.c", **typed}
    )

    assert said in answer.text
    assert V1.charges.list().data == []


@pytest.mark.parametrize(("succeeds", "status"), [(True, "paid"), (False, "unpaid")])
def test_money_from_a_bank_comes_later_or_never(succeeds: bool, status: str):
    made = checkout()

    assert STAND.pay(made.url, method="bank").status_code == 303
    done = V1.checkout.sessions.retrieve(made.id, {"expand": ["payment_intent"]})
    assert (done.status, done.payment_status, done.payment_intent.status) == (
        "complete",
        "unpaid",
        "processing",
    )
    STAND.control("payments/settle", payment_intent=done.payment_intent.id, succeeds=succeeds)

    assert V1.checkout.sessions.retrieve(made.id).payment_status == status
    told = "succeeded" if succeeds else "failed"
    assert len(STAND.events(f"checkout.session.async_payment_{told}")) == 1


def test_tax_needs_to_know_where_the_customer_is():
    owner = customer()

    with pytest.raises(stripe.InvalidRequestError) as refused:
        checkout(customer=owner.id, automatic_tax={"enabled": True})
    assert refused.value.code == "customer_tax_location_invalid"

    STAND.pay(
        checkout(customer=owner.id, automatic_tax={"enabled": True}, customer_update={"address": "auto"}).url
    )
    assert V1.customers.retrieve(owner.id).address.country == "US"


def test_an_expired_session_takes_no_money():
    made = checkout()

    V1.checkout.sessions.expire(made.id)

    assert STAND.pay(made.url).status_code == 410
    assert len(STAND.events("checkout.session.expired")) == 1
    with pytest.raises(stripe.InvalidRequestError):
        V1.checkout.sessions.expire(made.id)
