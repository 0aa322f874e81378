"""Invoices of who pays afterwards and of plans, at the simulated Stripe: they say what it asks for."""

from __future__ import annotations

from decimal import Decimal

import pytest

from billing import months, reconcile
from billing.core.money import parse_usd
from billing.documents import closing, credit_notes, proofs, standing
from billing.models import Alert, BilledUsage, Document, Posting, StripeInvoice
from billing.payments import postpaid
from tests.billing import subscribing
from tests.billing.subscribing import CENT, day
from tests.billing.test_postpaid import CLOSED, DOLLAR, FEBRUARY, JANUARY, START, agree, call

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world(stand, monkeypatch, settings):
    settings.BILLING_GRACE_DAYS = 7
    return subscribing.World(stand, monkeypatch, START)


def go(world, to):
    world.go(to)
    months.make_coming()


def documents(world):
    return list(Document.objects.of(world.acme).order_by("issued_at", "number"))


def broken():
    found = [*reconcile.check(), proofs.check()]
    # Calls of these tests cost what the tests say, not what a price makes of them.
    let = ("gate_agrees", "bills_recompute")
    return {each.name: each.examples for each in found if not each.holds and each.name not in let}


def test_who_pays_afterwards_gets_one_invoice_over_usage_fee_and_rebate_and_what_stripe_asks(world):
    agree(
        world,
        monthly_nanos=500 * DOLLAR,
        volume_discount=Decimal("0.05"),
        discount_threshold_nanos=1_000 * DOLLAR,
        days_until_due=30,
    )
    call(world, 2_000 * DOLLAR + 6_000_000, day("2027-01-15T00:00:00"))
    go(world, CLOSED)
    assert closing.close_month(JANUARY) == 0  # its invoice is not at Stripe yet
    postpaid.invoice_month(JANUARY)

    assert (closing.close_month(JANUARY), closing.close_month(JANUARY)) == (1, 0)

    (invoice,) = documents(world)
    said, there = invoice.content, world.there("invoice")[-1]
    assert (invoice.kind, invoice.number, said["month"]) == ("invoice", "IN-2027-000001", "2027-01")
    assert (said["fees"][0]["amount"], said["rebate"]["amount"]) == ("500", "50.0003")
    assert said["total"] == "2450.0057"
    assert (said["due"]["cents"], said["due"]["carried"]) == (there["total"], "-0.0057")
    assert said["due"]["stripe_invoice"] == there["id"]
    assert (standing.of(invoice).status, standing.of(invoice).pay_url != "") == ("open", True)
    rows = StripeInvoice.objects.of(world.acme)
    rows.update(due_at=day("2027-04-01T00:00:00"))  # an operator gave them longer, in Stripe's dashboard
    assert broken() == {}
    rows.update(stripe_id="in_other")
    assert set(broken()) == {"documents_recompute"}
    rows.update(stripe_id=there["id"])

    world.card()
    world.v1.invoices.pay(there["id"])
    world.hear()
    assert (standing.of(Document.objects.of(world.acme).get()).status, broken()) == ("paid", {})
    call(world, DOLLAR, day("2027-01-20T00:00:00"))
    go(world, day("2027-03-01T07:00:00"))
    postpaid.invoice_month(FEBRUARY)
    closing.close_month(FEBRUARY)
    february = documents(world)[-1].content
    assert (february["late"]["amount"], february["credits"][0]["kind"]) == ("1", "invoice_paid")
    assert february["opening_balance"] == said["closing_balance"]
    assert february["due"]["cents"] == 501_00
    assert broken() == {}


def test_who_pays_afterwards_and_owes_less_than_stripe_charges_gets_a_statement(world):
    agree(world)
    call(world, 49 * CENT, day("2027-01-15T00:00:00"))
    go(world, CLOSED)

    assert closing.close_month(JANUARY) == 1

    assert [(each.kind, each.content["due"]) for each in documents(world)] == [("statement", None)]
    call(world, 51 * CENT, day("2027-02-15T00:00:00"))
    go(world, day("2027-03-01T07:00:00"))
    postpaid.invoice_month(FEBRUARY)
    closing.close_month(FEBRUARY)
    due = documents(world)[-1].content["due"]
    assert (due["cents"], due["carried"]) == (100, "0.49")
    assert broken() == {}


def test_nothing_is_asked_of_who_pays_afterwards_while_bill_and_usage_of_the_month_differ(world):
    agree(world, monthly_nanos=20 * DOLLAR)
    world.card()
    call(world, 40 * DOLLAR, day("2027-01-01T00:00:00"))
    billed = BilledUsage.objects.of(world.acme)
    billed.update(charge_nanos=1)
    go(world, CLOSED)

    closing.close_month(JANUARY)
    postpaid.invoice_month(JANUARY)
    assert not StripeInvoice.objects.of(world.acme).exists()

    billed.update(charge_nanos=40 * DOLLAR)
    closing.close_month(JANUARY)
    postpaid.invoice_month(JANUARY)
    closing.close_month(JANUARY)
    assert [row.cents for row in StripeInvoice.objects.of(world.acme)] == [60_00]
    assert documents(world)[-1].content["total"] == "60"
    assert broken() == {}


def test_a_fee_alone_is_invoiced_too(world):
    agree(world, monthly_nanos=20 * DOLLAR)
    world.card()
    go(world, CLOSED)
    closing.close_month(JANUARY)
    postpaid.invoice_month(JANUARY)
    closing.close_month(JANUARY)

    (invoice,) = documents(world)
    assert (invoice.content["usage"], invoice.content["total"]) == ([], "20")
    assert (invoice.content["due"]["cents"], standing.of(invoice).status) == (20_00, "paid")
    assert broken() == {}


def test_a_credit_note_for_an_invoice_with_tax_gives_its_part_of_the_tax_to_the_wallet(world, settings):
    settings.STRIPE_TAX = True
    world.v1.customers.update(world.customer, {"address": {"country": "US", "postal_code": "94103"}})
    agree(world, days_until_due=30)
    call(world, 100 * DOLLAR, day("2027-01-15T00:00:00"))
    go(world, CLOSED)
    postpaid.invoice_month(JANUARY)
    closing.close_month(JANUARY)
    (invoice,) = documents(world)
    tax = invoice.tax_cents * CENT
    assert tax > 0

    first = credit_notes.issue(invoice.number, 30 * DOLLAR, reason="Outage")
    second = credit_notes.issue(invoice.number, 70 * DOLLAR, reason="The rest")

    given = [Posting.objects.get(kind="credit_note", source_id=str(note.pk)) for note in (first, second)]
    assert sum(each.entries.get(account__kind="wallet").nanos for each in given) == 100 * DOLLAR + tax
    assert sum(each.entries.get(account__kind="tax").nanos for each in given) == -tax
    assert parse_usd(first.content["tax"][0]["amount"]) == tax * 30 // 100
    with pytest.raises(ValueError, match="at most"):
        credit_notes.issue(invoice.number, 1, reason="More")
    assert broken() == {}


def test_every_paid_period_of_a_plan_has_an_invoice_of_its_own_and_stands_on_the_statement(world):
    world.subscribe("pro")
    world.hear()
    go(world, day("2027-01-10T00:00:00"))
    world.hear()

    assert (closing.issue_subscriptions(), closing.issue_subscriptions()) == (1, 0)

    (invoice,) = documents(world)
    said, row = invoice.content, StripeInvoice.objects.of(world.acme).get()
    assert (invoice.kind, invoice.purpose, said["month"]) == ("invoice", "subscription", None)
    assert (said["total"], said["due"]["total_cents"]) == ("9.99", 9_99)
    (line,) = said["subscription"]
    assert line["says"] == "1 × Pro, 31 December 2026 to 31 January 2027"
    assert (line["amount"], line["invoice"]) == ("9.99", row.stripe_id)
    credit_notes.issue(invoice.number, 5 * DOLLAR, reason="Half a month")
    assert world.balance() == 5 * DOLLAR
    go(world, day("2027-02-01T07:00:00"))
    closing.close_month(JANUARY)
    december, january = documents(world)[-2:]
    assert [row["amount"] for row in december.content["subscription"]] == ["9.99"]
    assert [row["kind"] for row in january.content["credits"]] == ["credit_note"]
    assert broken() == {}


def test_invoices_that_do_not_add_up_keep_none_behind_them_waiting(world, monkeypatch):
    """The oldest were taken each time: as many as a batch that could not be issued held up all others."""
    monkeypatch.setattr(closing, "_BATCH", 2)
    paid = day("2027-01-05T00:00:00")
    made = [
        StripeInvoice.objects.create(
            organization=world.acme, purpose="subscription", state="paid", stripe_id=f"in_{number}",
            cents=500, lines=[["Pro", cents]], paid_at=paid,
        )
        for number, cents in enumerate((1, 2, 3, 4, 500, 5, 500))
    ]  # fmt: skip

    assert (closing.issue_subscriptions(), closing.issue_subscriptions()) == (2, 0)

    assert {document.stripe_invoice_id for document in documents(world)} == {made[4].pk, made[6].pk}
    told = Alert.objects.filter(kind="document_differs", resolved_at=None)
    assert told.count() == 5
    StripeInvoice.objects.of(world.acme).filter(pk=made[0].pk).update(lines=[["Pro", 500]])
    assert closing.issue_subscriptions() == 1
    assert told.count() == 4, "what adds up at last is no longer told"


def test_a_bill_that_differs_from_its_close_is_told_and_not_issued(world):
    agree(world)
    call(world, 10 * CENT, day("2027-01-15T00:00:00"))
    go(world, CLOSED)
    postpaid.invoice_month(JANUARY)
    BilledUsage.objects.of(world.acme).update(charge_nanos=11 * CENT)

    assert closing.close_month(JANUARY) == 0
    assert Alert.objects.get(resolved_at=None).kind == "document_differs"
    BilledUsage.objects.of(world.acme).update(charge_nanos=10 * CENT)
    assert closing.close_month(JANUARY) == 1
    assert not Alert.objects.filter(resolved_at=None).exists()
