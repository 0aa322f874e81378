"""The simulated Stripe over months: subscriptions, invoices, schedules, on a test clock."""

from __future__ import annotations

import pytest
import stripe

from tests.billing.sandbox.shop import DAY, STAND, V1, Shop, invoices, period


@pytest.fixture(autouse=True)
def _anew() -> None:
    STAND.reset()


# ── Renewals ─────────────────────────────────────────────────────────────────────────────────────


def test_a_subscription_is_paid_at_once_and_renews_on_its_day():
    shop = Shop()
    made = shop.subscribe(metadata={"organization": "7"}, expand=["latest_invoice.payments"])
    invoice = made.latest_invoice
    assert (made.status, period(made)) == ("active", ("01-31", "02-28"))
    assert invoice.parent.subscription_details.subscription == made.id
    assert invoice.payments.data[0].payment.type == "payment_intent"

    shop.advance(60)

    renewed = V1.subscriptions.retrieve(made.id)
    assert (renewed.status, period(renewed)) == ("active", ("03-31", "04-30"))
    assert invoices(shop) == [
        ("subscription_create", "paid", 2000),
        ("subscription_cycle", "paid", 2000),
        ("subscription_cycle", "paid", 2000),
    ]
    assert len(STAND.events("invoice.upcoming")) == 2
    (payment,) = V1.invoice_payments.list({"invoice": renewed.latest_invoice}).data
    paid = V1.payment_intents.retrieve(payment.payment.payment_intent, {"expand": ["latest_charge"]})
    assert (paid.status, paid.latest_charge.amount, payment.amount_paid) == ("succeeded", 2000, 2000)


def test_a_renewal_that_fails_is_retried_then_the_subscription_is_canceled():
    shop = Shop()
    made = shop.subscribe()
    shop.use("pm_card_chargeCustomerFail")

    shop.advance(29)
    failed = V1.subscriptions.retrieve(made.id)
    assert failed.status == "past_due"
    assert V1.invoices.retrieve(failed.latest_invoice).next_payment_attempt is not None
    assert V1.customers.retrieve(shop.customer.id).delinquent

    shop.advance(16)
    ended = V1.subscriptions.retrieve(made.id)
    assert (ended.status, ended.cancellation_details.reason) == ("canceled", "payment_failed")
    assert len(STAND.events("invoice.payment_failed")) == 4
    assert len(STAND.events("customer.subscription.deleted")) == 1
    assert invoices(shop)[-1] == ("subscription_cycle", "open", 2000)


def test_a_renewal_that_the_bank_wants_confirmed_waits_for_the_customer():
    shop = Shop()
    made = shop.subscribe()
    shop.use("pm_card_authenticationRequired")
    shop.advance(29)

    late = V1.subscriptions.retrieve(made.id, {"expand": ["latest_invoice"]})
    assert (late.status, late.latest_invoice.status) == ("past_due", "open")
    assert len(STAND.events("invoice.payment_action_required")) == 1
    with pytest.raises(stripe.CardError) as refused:
        V1.invoices.pay(late.latest_invoice.id)
    assert refused.value.code == "invoice_payment_intent_requires_action"

    STAND.authenticate(f"/3ds/{refused.value.error.payment_intent.id}")
    assert V1.subscriptions.retrieve(made.id).status == "active"


def test_a_new_card_mends_a_subscription_that_is_past_due():
    shop = Shop()
    made = shop.subscribe()
    shop.use("pm_card_chargeCustomerFail")
    shop.advance(29)

    shop.use("pm_card_visa")
    invoice = V1.subscriptions.retrieve(made.id).latest_invoice
    V1.invoices.pay(invoice)

    assert V1.subscriptions.retrieve(made.id).status == "active"
    with pytest.raises(stripe.InvalidRequestError):
        V1.invoices.pay(invoice)


def test_one_that_was_canceled_ends_with_its_period_unless_it_is_resumed():
    shop = Shop()
    ends, goes_on = shop.subscribe(), shop.subscribe()
    for each in (ends, goes_on):
        V1.subscriptions.update(each.id, {"cancel_at_period_end": True})
    V1.subscriptions.update(goes_on.id, {"cancel_at_period_end": False})

    shop.advance(30)

    assert V1.subscriptions.retrieve(ends.id).status == "canceled"
    assert V1.subscriptions.retrieve(goes_on.id).status == "active"
    with pytest.raises(stripe.InvalidRequestError):
        V1.subscriptions.cancel(ends.id)
    assert [each.id for each in V1.subscriptions.list({"customer": shop.customer.id}).data] == [goes_on.id]


def test_a_first_payment_that_fails_leaves_it_incomplete_until_it_expires():
    shop = Shop("pm_card_chargeCustomerFail")

    made = shop.subscribe()
    assert made.status == "incomplete"
    shop.advance(1)

    assert V1.subscriptions.retrieve(made.id).status == "incomplete_expired"
    assert V1.invoices.retrieve(made.latest_invoice).status == "void"


def test_everybodys_time_moves_without_a_clock():
    product = {"currency": "usd", "unit_amount": 2000, "recurring": {"interval": "month"}}
    price = V1.prices.create({**product, "product_data": {"name": "Pro"}})
    owner = V1.customers.create({"email": "pat@example.com"})
    method = V1.payment_methods.attach("pm_card_visa", {"customer": owner.id})
    wanted = {"items": [{"price": price.id}], "default_payment_method": method.id}
    made = V1.subscriptions.create({"customer": owner.id, **wanted})

    STAND.control("clock/advance", seconds=32 * DAY)

    assert V1.subscriptions.retrieve(made.id).latest_invoice != made.latest_invoice


# ── Changes ──────────────────────────────────────────────────────────────────────────────────────


def change(made: stripe.Subscription, price: stripe.Price, **more: object) -> stripe.Subscription:
    item = made["items"].data[0].id
    return V1.subscriptions.update(
        made.id,
        {"items": [{"id": item, "price": price.id}], "proration_behavior": "always_invoice", **more},
    )


def test_an_upgrade_charges_the_rest_of_the_period_as_previewed():
    shop = Shop()
    made = shop.subscribe(automatic_tax={"enabled": True})
    shop.advance(14)
    wanted = {"items": [{"id": made["items"].data[0].id, "price": shop.business.id}]}
    preview = V1.invoices.create_preview(
        {
            "customer": shop.customer.id,
            "subscription": made.id,
            "subscription_details": {**wanted, "proration_behavior": "always_invoice"},
        }
    )

    changed = change(made, shop.business, payment_behavior="error_if_incomplete")

    invoice = V1.invoices.retrieve(changed.latest_invoice)
    assert [line.amount for line in invoice.lines.data] == [-1000, 4000]
    assert (invoice.subtotal, invoice.total, invoice.total_taxes[0].amount) == (3000, 3300, 300)
    assert (preview.amount_due, invoice.status, invoice.amount_paid) == (3300, "paid", 3300)
    assert period(changed) == period(made)
    assert len(V1.invoices.list({"subscription": made.id}).data) == 2


def test_an_upgrade_that_cannot_be_paid_changes_nothing():
    shop = Shop()
    made = shop.subscribe()
    shop.use("pm_card_chargeCustomerFail")
    shop.advance(1)

    with pytest.raises(stripe.CardError):
        change(made, shop.business, payment_behavior="error_if_incomplete")

    same = V1.subscriptions.retrieve(made.id)
    assert same["items"].data[0].price.id == shop.pro.id
    assert (same.status, same.latest_invoice) == ("active", made.latest_invoice)


def test_a_change_may_wait_for_its_payment():
    shop = Shop()
    made = shop.subscribe()
    shop.use("pm_card_chargeCustomerFail")
    shop.advance(1)

    waiting = change(made, shop.business, payment_behavior="pending_if_incomplete")
    assert waiting.pending_update is not None
    assert waiting["items"].data[0].price.id == shop.pro.id
    shop.use("pm_card_visa")
    V1.invoices.pay(waiting.latest_invoice)

    assert V1.subscriptions.retrieve(made.id)["items"].data[0].price.id == shop.business.id


def test_a_downgrade_now_gives_credit_that_the_next_invoice_uses():
    shop = Shop()
    made = shop.subscribe(items=[{"price": shop.business.id}])
    shop.advance(14)

    change(made, shop.pro)
    assert V1.customers.retrieve(shop.customer.id).balance == -3000

    shop.advance(15)
    renewal = V1.invoices.retrieve(V1.subscriptions.retrieve(made.id).latest_invoice)
    assert (renewal.total, renewal.amount_due, renewal.starting_balance) == (2000, 0, -3000)
    assert V1.customers.retrieve(shop.customer.id).balance == -1000


def test_a_change_may_be_billed_with_the_next_period():
    shop = Shop()
    made = shop.subscribe()
    shop.advance(14)

    change(made, shop.business, proration_behavior="create_prorations")
    assert len(invoices(shop)) == 1
    shop.advance(15)

    assert invoices(shop)[-1] == ("subscription_cycle", "paid", 8000 + 3000)


def test_a_schedule_changes_the_price_when_the_period_ends_then_lets_go():
    shop = Shop()
    made = shop.subscribe(items=[{"price": shop.business.id}])
    schedule = V1.subscription_schedules.create({"from_subscription": made.id})
    first = schedule.phases[0]
    then = {"items": [{"price": shop.pro.id}], "duration": {"interval": "month", "interval_count": 1}}
    now = {"items": [{"price": shop.business.id}], "start_date": first.start_date, "end_date": first.end_date}
    V1.subscription_schedules.update(
        schedule.id,
        {
            "phases": [{**now, "proration_behavior": "none"}, {**then, "proration_behavior": "none"}],
            "end_behavior": "release",
        },
    )
    with pytest.raises(stripe.InvalidRequestError, match="managed by the subscription schedule"):
        V1.subscriptions.update(made.id, {"cancel_at_period_end": True})

    shop.advance(29)
    assert [total for _, _, total in invoices(shop)] == [8000, 2000]
    assert V1.subscriptions.retrieve(made.id)["items"].data[0].price.id == shop.pro.id

    shop.advance(31)
    assert V1.subscription_schedules.retrieve(schedule.id).status == "released"
    assert V1.subscriptions.retrieve(made.id).schedule is None


# ── Invoices by hand ─────────────────────────────────────────────────────────────────────────────


def by_hand(shop: Shop, **more: object) -> stripe.Invoice:
    made = V1.invoices.create({"customer": shop.customer.id, "auto_advance": False, **more})
    lines = [{"description": "Usage of January", "amount": 1234}, {"description": "Fee", "amount": 66}]
    return V1.invoices.add_lines(made.id, {"lines": lines})


def test_an_invoice_is_written_finalized_and_paid():
    shop = Shop()
    draft = by_hand(shop, metadata={"month": "2026-01"})
    assert (draft.status, draft.total, len(draft.lines.data)) == ("draft", 1300, 2)

    final = V1.invoices.finalize_invoice(draft.id)
    assert (final.status, final.number is not None) == ("open", True)
    with pytest.raises(stripe.InvalidRequestError):
        V1.invoices.add_lines(draft.id, {"lines": [{"description": "More", "amount": 1}]})
    paid = V1.invoices.pay(draft.id)

    assert (paid.status, paid.amount_paid, paid.parent) == ("paid", 1300, None)
    with pytest.raises(stripe.InvalidRequestError):
        V1.invoices.void_invoice(draft.id)


def test_an_invoice_that_cannot_be_paid_is_voided():
    shop = Shop("pm_card_chargeCustomerFail")
    invoice = V1.invoices.finalize_invoice(by_hand(shop).id)

    with pytest.raises(stripe.CardError):
        V1.invoices.pay(invoice.id)
    voided = V1.invoices.void_invoice(invoice.id)

    assert (voided.status, len(STAND.events("invoice.voided"))) == ("void", 1)
    assert V1.invoice_payments.list({"invoice": invoice.id}).data[0].status == "canceled"


def test_an_invoice_that_advances_is_charged_by_itself_and_again_after_a_decline():
    shop = Shop("pm_card_chargeCustomerFail")
    draft = by_hand(shop, auto_advance=True)

    shop.advance(1)
    assert V1.invoices.retrieve(draft.id).status == "open"
    shop.use("pm_card_visa")
    shop.advance(4)

    assert V1.invoices.retrieve(draft.id).status == "paid"


def test_a_person_pays_an_open_invoice_on_its_page():
    shop = Shop()
    invoice = V1.invoices.finalize_invoice(
        by_hand(shop, collection_method="send_invoice", days_until_due=14).id
    )
    card = {"number": "4000002760003184", "expiry": "12/34", "cvc": "123"}

    assert "$13.00" in STAND.open(invoice.hosted_invoice_url).text
    step = STAND.submit(invoice.hosted_invoice_url, **card)
    STAND.authenticate(step.headers["location"])

    assert V1.invoices.retrieve(invoice.id).status == "paid"
