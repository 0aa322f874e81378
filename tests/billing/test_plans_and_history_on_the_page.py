"""The billing page on plans, on what moved, and on what may be given back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aggregator.lib import clock
from billing import history, ledger, overview
from billing.core import chart
from billing.models import Dispute, Document, Refund, StripeInvoice, Subscription, Wallet
from tests.billing import papers
from tests.billing.looking import CENT, DOLLAR, card, days_ago, look, subscribe, top_up, use

pytestmark = pytest.mark.django_db


# ── Plans ────────────────────────────────────────────────────────────────────────────────────────

_PRO = Subscription(plan="pro", state="active")
_LEAVING = Subscription(plan="business", state="active", next_plan="free")
_OVERDUE = Subscription(plan="pro", state="past_due")


@pytest.mark.parametrize(
    ("plan", "living", "actions"),
    [
        ("free", None, ["", "start", "start", "talk"]),
        ("pro", _PRO, ["cancel", "", "upgrade", "talk"]),
        ("business", _LEAVING, ["", "downgrade", "keep", "talk"]),
        ("pro", _OVERDUE, ["cancel", "", "", "talk"]),
        ("production", None, ["talk", "talk", "talk", ""]),
    ],
)
def test_each_plan_offers_what_can_be_done_about_it(plan, living, actions):
    assert [overview.action(slug, plan=plan, living=living) for slug in overview.ORDER] == actions


def test_the_cheapest_plan_for_last_months_usage_is_named_whichever_it_is(alice, shop):
    last = clock.now().date().replace(day=1) - timedelta(days=1)
    use(shop, last, base_nanos=100 * DOLLAR)
    page = look(alice)
    assert "your plan is the cheapest" in page and "Free your plan cheapest for" in page

    use(shop, last - timedelta(days=1), base_nanos=900 * DOLLAR)
    page = look(alice)
    assert f"in {last:%B}, Pro would have been the cheapest: $41.01 less than your plan" in page
    # 1,000 at 5 %, its fee, and 2 % back on the 50 above the threshold.
    assert "$1,058.99 $1,050.00 usage + $9.99 − $1.00" in page


def test_a_plan_that_changes_later_says_when_and_can_be_kept(alice, shop):
    subscribe(shop, "business", next_plan="pro")

    page = look(alice)

    assert "Business until" in page and "then Pro" in page and "Keep Business" in page


def test_a_plan_that_is_not_there_is_404_and_one_that_cannot_change_leads_back(alice):
    assert alice.get("/billing/plan/gold").status_code == 404
    answer = alice.get("/billing/plan/production", follow=True)
    assert answer.redirect_chain[-1][0] == "/billing"


def test_cancelling_asks_first(alice, shop):
    card(shop)
    living = subscribe(shop)

    page = look(alice, "/billing/plan/free")

    assert "Cancel your plan?" in page and "Nothing is due now" in page
    assert f"{living.period_end:%H:%M} UTC" in page


# ── History ──────────────────────────────────────────────────────────────────────────────────────


def test_history_shows_each_movement_with_its_sign_and_usage_by_day(alice, shop):
    top_up(shop, 2000, tax_cents=160)
    use(shop, days_ago(1), base_nanos=DOLLAR, calls=1234)
    ledger.post(
        "subscription",
        "in_1",
        entries={(chart.SUBSCRIPTION_REVENUE, None): 999 * CENT, (chart.STRIPE_CASH, None): -999 * CENT},
        organization_id=shop.pk,
    )
    StripeInvoice.objects.create(
        organization=shop,
        purpose="subscription",
        state="paid",
        stripe_id="in_1",
        cents=999,
        hosted_url="https://invoice.stripe.com/i/1",
    )

    page = look(alice).partition("History")[2]

    assert "Top-up +$20.00 $21.60 paid tax $1.60 Receipt" in page
    assert "Subscription — $9.99 paid Invoice" in page
    assert "Usage of 1,234 calls −$1.10" in page
    assert page.index("Subscription") < page.index("Top-up") < page.index("Usage of"), "the newest first"


def test_history_leads_to_the_documents_that_its_rows_stand_on(alice, shop):
    paid = StripeInvoice.objects.create(
        organization=shop, purpose="subscription", state="paid", stripe_id="in_7", cents=999
    )
    month = papers.issue(shop)
    note = papers.issue(shop, "credit_note", corrects=month)
    income = {(chart.SUBSCRIPTION_REVENUE, None): 999 * CENT, (chart.STRIPE_CASH, None): -999 * CENT}
    ledger.post("subscription", "in_7", entries=income, organization_id=shop.pk)
    for kind, source, other in (
        ("credit_note", str(note.pk), chart.LOSS),
        ("rebate", f"{shop.pk}:2026-11", chart.DISCOUNT),
        ("rebate", f"{shop.pk}:2026-09", chart.DISCOUNT),
    ):
        entries = {(chart.WALLET, shop.pk): 5, (other, None): -5}
        ledger.post(kind, source, entries=entries, organization_id=shop.pk)

    rows = history.page(shop.pk).rows

    named = {row.source_id: row.document_number for row in rows if row.kind not in ("welcome", "usage")}
    assert named == {
        str(note.pk): note.number, f"{shop.pk}:2026-11": month.number, f"{shop.pk}:2026-09": "",
        "in_7": "",
    }  # fmt: skip
    page = alice.get("/billing/history").content.decode()
    assert f'href="/billing/invoices/{month.pk}">{month.number}</a>' in page
    said = papers.subscription()
    of_plan = Document.objects.create(
        organization=shop, kind="invoice", purpose="subscription", number="IN-2026-000007", content=said,
        stripe_invoice=paid, total_nanos=999 * CENT, cents=999,
    )  # fmt: skip
    (row,) = [row for row in history.page(shop.pk).rows if row.source_id == "in_7"]
    assert (row.document, row.document_number) == (str(of_plan.pk), "IN-2026-000007")


def test_history_is_paged_without_losing_or_repeating_a_row(shop):
    for number in range(7):
        top_up(shop, 500 + number)
    for number in range(9):
        use(shop, days_ago(number), base_nanos=DOLLAR + number)

    seen, before, pages = [], None, 0
    while True:
        found = history.page(shop.pk, before=before, size=3)
        seen += found.rows
        pages += 1
        if found.older is None:
            break
        before = history.place(str(found.older))
        assert before is not None

    assert pages == 6
    assert [row.posting_id for row in seen if not row.is_usage] == sorted(
        {row.posting_id for row in seen if not row.is_usage}, reverse=True
    )
    assert [row.day for row in seen if row.is_usage] == [days_ago(number) for number in range(9)]
    assert len(seen) == 7 + 1 + 9


@pytest.mark.parametrize(
    ("kind", "there", "not_there"),
    [
        ("payments", "Top-up", "Starting credit"),
        ("credits", "Starting credit", "Top-up"),
        ("usage", "Usage of", "Top-up"),
        ("nonsense", "Usage of", "nonsense"),
    ],
)
def test_history_is_filtered_by_kind(alice, shop, kind, there, not_there):
    top_up(shop)
    use(shop, days_ago(1), base_nanos=DOLLAR)

    page = look(alice, f"/billing/history?kind={kind}", **{"HX-Request": "true"})

    assert there in page and not_there not in page
    assert "Fairlead" not in page, "htmx is given the table alone"
    assert there in look(alice, f"/billing/history?kind={kind}"), "and without htmx it is a page"


@pytest.mark.parametrize(
    "before", ["1", "x.y", "1.2026-13-01", f"{2**63}.2026-01-01", "1.٢٠٢٦-01-01", "0.2026-01-01"]
)
def test_a_strange_place_in_history_is_refused_or_empty(alice, before):
    assert alice.get("/billing/history", {"before": before}).status_code == 200


def test_a_note_is_text_and_never_markup(alice, shop):
    ledger.post(
        "grant",
        "one",
        entries={(chart.WALLET, shop.pk): DOLLAR, (chart.PROMOTION, None): -DOLLAR},
        organization_id=shop.pk,
        note="<script>alert(1)</script>",
    )

    assert "&lt;script&gt;alert(1)" in alice.get("/billing").content.decode()


# ── Refunds ──────────────────────────────────────────────────────────────────────────────────────


def test_what_is_left_of_each_top_up_is_offered_and_asked_about_first(alice, shop):
    row = top_up(shop, 2000)
    ledger.post(
        "usage",
        "one",
        entries={(chart.WALLET, shop.pk): -8 * DOLLAR, (chart.PROVIDER_COST, None): 8 * DOLLAR},
        organization_id=shop.pk,
    )

    assert "Unused credit $13.00 of $20.00" in look(alice), "the dollar that was given burned first"
    page = look(alice, f"/billing/top-ups/{row.pk}/refund")
    assert "Refund $13.00?" in page and "to the card that paid" in page


def test_a_refund_says_how_far_it_is(alice, shop):
    paid = top_up(shop, 2000)
    refund = Refund.objects.create(
        organization=shop, top_up=paid, cents=2000, reason="unused_credit", state="pending"
    )
    ledger.post(
        "refund",
        str(refund.pk),
        entries={(chart.WALLET, shop.pk): -20 * DOLLAR, (chart.STRIPE_CASH, None): 20 * DOLLAR},
        organization_id=shop.pk,
    )

    assert "Refund on its way −$20.00 $20.00 back" in look(alice)


def test_less_than_a_cent_is_not_offered(alice, shop):
    top_up(shop, 2000)
    spent = 21 * DOLLAR - CENT + 1
    ledger.post(
        "usage",
        "one",
        entries={(chart.WALLET, shop.pk): -spent, (chart.PROVIDER_COST, None): spent},
        organization_id=shop.pk,
    )

    assert "Unused credit" not in look(alice)


def test_what_would_not_be_paid_back_is_not_offered(alice, shop):
    disputed, other = top_up(shop, 2000), top_up(shop, 3000)
    Dispute.objects.create(
        organization=shop, stripe_id="dp_1", charge_id="ch_1", top_up=disputed, cents=2000, status="won"
    )

    assert "Unused credit $30.00 of $30.00" in look(alice), "the bank decided about the other one"
    Wallet.objects.of(shop).update(frozen_at=clock.now(), frozen_because="operator")
    assert "Unused credit" not in look(alice)
    assert "Refund $0.00?" in look(alice, f"/billing/top-ups/{other.pk}/refund")
