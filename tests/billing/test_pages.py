"""The billing page in each state that money may be in, what is typed there, and who may see it."""

from __future__ import annotations

import re
import uuid
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.core import roles
from accounts.models import Organization
from aggregator.lib import clock
from billing import ledger, plans
from billing.core import chart
from billing.models import AutoTopUp, StripeInvoice, TopUp, Wallet
from tests.billing import books
from tests.billing.looking import DOLLAR, card, look, signed_in, subscribe, top_up

pytestmark = pytest.mark.django_db

AUTOMATIC = {"enabled": "on", "threshold": "10", "cents": "20", "monthly_cap": "100"}


# ── Who sees it ──────────────────────────────────────────────────────────────────────────────────

PAGES = {
    "/billing": "get",
    "/billing/history": "get",
    "/billing/top-ups": "post",
    "/billing/auto-top-up": "post",
    "/billing/auto-top-up/resume": "post",
    "/billing/portal": "post",
    "/billing/plan/pro": "post",
    "/billing/plan/keep": "post",
}


def test_a_member_sees_no_billing_page_and_no_link_to_it(_client, shop):
    bob = signed_in(_client, shop, roles.MEMBER)
    row = top_up(shop)
    paths = {**PAGES, f"/billing/top-ups/{row.pk}/refund": "get", f"/billing/receipts/{row.pk}": "get"}

    for path, method in paths.items():
        answer = getattr(bob, method)(path)
        assert answer.status_code == 403, path
        assert "Ask an owner or an admin" in answer.content.decode()
    keys = bob.get("/keys").content.decode()
    assert 'href="/billing"' not in keys
    assert "$21.00" in keys, "what is left is no secret: calls depend on it"


def test_an_admin_sees_it(_client, shop):
    assert "Credit left $1.00" in look(signed_in(_client, shop, roles.ADMIN))


def test_rows_of_another_organization_are_not_there(alice, shop):
    hers = top_up(books.make_organization("other", usd="0"))
    subscription = subscribe(Organization.objects.get(slug="other"))

    for path in (
        f"/billing/top-ups/{hers.pk}/refund",
        f"/billing/receipts/{hers.pk}",
        f"/billing/payments/top_up/{hers.pk}",
        f"/billing/payments/subscription/{subscription.pk}",
    ):
        assert alice.get(path).status_code == 404, path
    assert alice.post(f"/billing/top-ups/{hers.pk}/refund").status_code == 404
    page = look(alice, f"/billing?top_up={hers.pk}&kind=payments")
    assert "Credit added" not in page and "Top-up" not in page.partition("History")[2]


# ── States ───────────────────────────────────────────────────────────────────────────────────────


def test_a_new_organization_is_told_what_comes_first(alice):
    page = look(alice)

    assert "Credit left $1.00" in page
    assert "No card yet" in page and "This needs a saved card" in page
    assert "Free your plan" in page and "Once there is usage" in page
    assert "Starting credit +$1.00" in page


def test_without_credit_it_says_that_calls_are_refused(alice, shop):
    Wallet.objects.of(shop).update(balance_nanos=0)

    assert "Credit left $0.00 Calls are refused until there is credit." in look(alice)


def test_given_credit_is_told_apart_with_the_end_of_its_days(alice, shop):
    top_up(shop)
    ends = clock.now().replace(year=2099, month=3, day=4, hour=5, minute=6)
    ledger.post(
        "grant",
        "one",
        entries={(chart.WALLET, shop.pk): 2 * DOLLAR + 1, (chart.PROMOTION, None): -2 * DOLLAR - 1},
        organization_id=shop.pk,
        expires_at=ends,
    )

    page = look(alice)

    assert "Credit left $23.000000001" in page
    assert "$3.000000001 of it was given" in page
    assert "$2.000000001 expires 4 Mar 2099, 05:06 UTC" in page


@pytest.mark.parametrize(
    ("because", "what_to_do"),
    [
        ("dispute", "ask your bank to withdraw the dispute"),
        ("fraud_warning", "tell your bank that the payment was yours"),
        ("unpaid", "Adding credit does not pay it"),
        ("operator", "we stopped it by hand"),
        ("dispute,unpaid", "ask your bank to withdraw the dispute"),
    ],
)
def test_a_suspended_organization_is_told_why_and_what_to_do(alice, shop, settings, because, what_to_do):
    settings.CONTACT_EMAIL = "help@example.com"
    Wallet.objects.of(shop).update(frozen_at=clock.now(), frozen_because=because)

    page = look(alice)

    assert "This organization is suspended" in page and what_to_do in page
    assert ("no payment is taken" in page) == (because != "unpaid")
    assert "Suspended" in look(alice, "/keys"), "every page says so in its header"
    assert "mailto:help@example.com" in alice.get("/billing").content.decode()


def test_an_overdue_subscription_says_until_when_the_plan_stays_and_where_to_pay(alice, shop):
    until = clock.now().replace(year=2099, month=1, day=2, hour=3, minute=4)
    living = subscribe(shop, state="past_due", grace_until=until)
    StripeInvoice.objects.create(
        organization=shop,
        purpose="subscription",
        state="open",
        stripe_id="in_1",
        subscription=living,
        cents=999,
        tax_cents=80,
        hosted_url="https://invoice.stripe.com/i/1",
        failure_message="Your card has expired.",
    )

    page = look(alice)

    assert "The payment for your Pro plan failed" in page
    assert "$10.79 could not be charged: Your card has expired." in page
    assert "stays until 2 Jan 2099, 03:04 UTC" in page
    assert 'href="https://invoice.stripe.com/i/1"' in alice.get("/billing").content.decode()
    assert "Payment overdue" in look(alice, "/keys")


@pytest.mark.parametrize(
    ("because", "says"),
    [
        ("no_card", "there is no saved card"),
        ("authentication_required", "your bank wants you to confirm"),
        ("insufficient_funds", "Your card has insufficient funds."),
        ("customer_tax_location_invalid", "the tax depends on your address"),
        ("refund", "credit was paid back"),
    ],
)
def test_a_pause_of_automatic_top_ups_says_why(alice, shop, because, says):
    AutoTopUp.objects.create(
        organization=shop,
        enabled=True,
        threshold_nanos=DOLLAR,
        cents=2000,
        monthly_cap_cents=10000,
        paused_at=clock.now(),
        paused_because=because,
    )
    TopUp.objects.create(
        organization=shop,
        kind="auto",
        state="failed",
        cents=2000,
        failure_message="Your card has insufficient funds.",
    )

    page = look(alice)

    assert "Automatic top-up is paused" in page and says in page and "Resume" in page


def test_a_postpaid_organization_sees_what_it_owes_and_its_open_invoice(alice, shop):
    plans.set_plan(
        shop.slug, "production", markup=Decimal("0.02"), credit_limit_nanos=500 * DOLLAR, postpaid=True
    )
    Wallet.objects.of(shop).update(balance_nanos=-12 * DOLLAR)
    StripeInvoice.objects.create(
        organization=shop, purpose="postpaid", state="open", month=date(2026, 3, 1), cents=123_45
    )

    page = look(alice)

    assert "Owed so far $12.00" in page
    assert "until $500.00 are owed; each month is invoiced after its end" in page
    assert "The invoice of March 2026 is open $123.45" in page


def test_a_page_begun_and_left_is_offered_again(alice, shop):
    TopUp.objects.create(
        organization=shop, kind="checkout", state="open", cents=2500, session_id="cs_1", session_url="/c/1"
    )

    page = look(alice)

    assert "You began a top-up of $25.00" in page and "we know of no payment yet" in page
    assert 'href="/c/1"' in alice.get("/billing").content.decode()


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("paid", "Credit added $20.00 came in"),
        ("failed", "The payment failed Your card was declined."),
        ("expired", "The payment was not finished Nothing was charged."),
    ],
)
def test_the_return_page_says_what_became_of_the_payment(alice, shop, state, says):
    row = TopUp.objects.create(
        organization=shop,
        kind="checkout",
        state=state,
        cents=2000,
        failure_message="Your card was declined." if state == "failed" else "",
    )

    assert says in look(alice, f"/billing?top_up={row.pk}")
    fragment = alice.get(f"/billing/payments/top_up/{row.pk}", headers={"HX-Request": "true"})
    assert "hx-trigger" not in fragment.content.decode(), "nothing is left to wait for"
    assert ('hx-swap-oob="true"' in fragment.content.decode()) == (state == "paid")


def test_a_payment_that_is_not_confirmed_is_looked_at_again_and_ever_more_slowly(alice, shop):
    row = TopUp.objects.create(organization=shop, kind="checkout", state="created", cents=2000)

    def every() -> str:
        page = alice.get(f"/billing?top_up={row.pk}").content.decode()
        assert "Payment under way" in page
        found = re.search(r'hx-trigger="every (\d+)s"', page)
        return found[1] if found else ""

    waits = [every()]
    for minutes in (5, 60):
        TopUp.objects.of(shop).update(created_at=clock.now() - timedelta(minutes=minutes))
        waits.append(every())

    assert waits == ["2", "15", ""]


@pytest.mark.parametrize(
    "query", ["top_up=1", "top_up=", "subscription=x", f"top_up={uuid.UUID(int=1)}", "portal="]
)
def test_a_strange_return_is_the_page(alice, query):
    assert "Credit left" in look(alice, f"/billing?{query}")


def test_no_id_stands_twice_on_the_page(alice, shop):
    card(shop)
    top_up(shop)
    subscribe(shop)

    found = re.findall(r'\sid="([^"]*)"', alice.get("/billing").content.decode())

    assert len(found) > 20
    assert sorted(found) == sorted(set(found)), "a label would lead to another form's field"


def test_every_header_costs_one_statement(_client, shop):
    bob = signed_in(_client, shop, roles.MEMBER)

    with CaptureQueriesContext(connection) as asked:
        assert "$1.00" in bob.get("/keys").content.decode()

    assert len([query for query in asked if "billing_" in query["sql"]]) == 1


# ── What is typed ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "amount", ["4.99", "25000.01", "10.001", "-10", "0", "ten", "", "1e3", "NaN", "9" * 20]
)
def test_a_bad_amount_is_refused_beside_its_field_and_kept(alice, shop, amount):
    answer = alice.post("/billing/top-ups", {"preset": "other", "cents": amount})

    page = answer.content.decode()
    assert answer.status_code == 422
    assert 'id="buy_cents_error"' in page and "aria-invalid" in page
    assert not amount or f'value="{amount}"' in page
    assert 'value="other" id="buy_preset_5" checked' in page
    assert not TopUp.objects.of(shop).exists()


@pytest.mark.parametrize("preset", ["", "11", "1000000"])
def test_an_amount_that_is_not_offered_is_refused(alice, shop, preset):
    assert alice.post("/billing/top-ups", {"preset": preset}).status_code == 422
    assert not TopUp.objects.of(shop).exists()


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("threshold", "-1", "The least is 0."),
        ("threshold", "", "required"),
        ("cents", "4", "from $5 to $25,000"),
        ("cents", "5.005", "whole cents"),
        ("monthly_cap", "1", "monthly cap is at least"),
        ("monthly_cap", "1.001", "whole cents"),
    ],
)
def test_a_bad_automatic_top_up_is_refused_beside_its_field(alice, shop, field, value, says):
    card(shop)

    answer = alice.post("/billing/auto-top-up", {**AUTOMATIC, field: value})

    page = answer.content.decode()
    assert answer.status_code == 422
    assert says in page and f'id="auto_{field}_error"' in page
    assert not AutoTopUp.objects.of(shop).exists()


def test_automatic_top_ups_are_set_and_shown(alice, shop):
    card(shop)

    answer = alice.post("/billing/auto-top-up", {**AUTOMATIC, "threshold": "$1,250.5"}, follow=True)

    row = AutoTopUp.objects.of(shop).get()
    assert (row.enabled, row.threshold_nanos) == (True, 1_250_500_000_000)
    assert (row.cents, row.monthly_cap_cents) == (20_00, 100_00)
    page = answer.content.decode()
    assert "Automatic top-up is on." in page and 'value="1250.5"' in page
    assert "This month it bought $0.00 of at most $100.00" in page


def test_without_a_card_automatic_top_ups_are_refused_with_the_way_to_one(alice, shop):
    answer = alice.post("/billing/auto-top-up", AUTOMATIC)

    assert answer.status_code == 422
    assert not AutoTopUp.objects.of(shop).filter(enabled=True).exists()
