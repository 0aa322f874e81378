"""What became of an invoice: on pages and over the API, and nowhere in what was issued."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from aggregator.lib import clock
from billing.models import StripeInvoice
from tests.billing import papers
from tests.billing.looking import look

pytestmark = pytest.mark.django_db


def test_where_an_invoice_stands_is_shown_and_told_beside_what_it_said_when_it_was_issued(alice, asks, shop):
    now = clock.now()
    asked = StripeInvoice.objects.create(
        organization=shop,
        purpose="postpaid",
        stripe_id="in_1",
        state="open",
        month=date(2026, 11, 1),
        cents=5_00,
        due_at=now + timedelta(days=9),
        hosted_url="https://invoice.example/1",
    )
    row = papers.issue(shop, "invoice", asked=asked)
    path = f"/billing/invoices/{row.pk}"
    frozen = alice.get(f"{path}.json").content

    def stands(**changes):
        """What list and document say on the page, and what the API says of both."""
        StripeInvoice.objects.of(shop).update(**changes)
        pages = [look(alice, "/billing/invoices"), look(alice, path)]
        (listed,), single = asks("/invoices").json()["data"], asks(f"/invoices/{row.pk}").json()["data"]
        told = [
            (each["status"], each["due_at"], each["paid_at"], each["pay_url"]) for each in (listed, single)
        ]
        assert told[0] == told[1] and single["document"] == row.content
        return pages, told[0]

    pages, told = stands()
    assert told[:1] + told[3:] == ("open", "https://invoice.example/1") and told[1] and not told[2]
    assert all(f"Open Due {now + timedelta(days=9):%-d %b %Y}" in page for page in pages)
    assert all(f"Pay {row.number} at Stripe" in page for page in pages)
    pages, told = stands(due_at=now - timedelta(days=1))
    assert told[0] == "past_due" and told[1] and told[3]
    assert all(f"Past due Since {now - timedelta(days=1):%-d %b %Y}" in page for page in pages)
    for state, paid_at in (("paid", now), ("void", None), ("uncollectible", None)):
        pages, told = stands(state=state, paid_at=paid_at)
        assert told[0] == state and told[1] is told[3] is None and bool(told[2]) is (state == "paid")
        assert all(state.capitalize() in page and "at Stripe" not in page for page in pages)
        assert "To be paid" not in pages[1]
    assert alice.get(f"{path}.json").content == frozen
