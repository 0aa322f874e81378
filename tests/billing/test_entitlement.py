"""What a subscription gives, as a table: Stripe's word, our state, what is paid → state, plan, what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing.core import entitlement
from billing.core.entitlement import Standing

DUE = datetime(2026, 11, 30, tzinfo=UTC)
GRACE = timedelta(days=7)
OVER = DUE + GRACE
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("status", "was", "paid", "now", "gives"),
    [
        ("incomplete", "open", False, DUE, Standing("open")),
        ("incomplete_expired", "open", False, DUE, Standing("expired")),
        # Active and paid is the plan; active and unpaid is not yet.
        ("active", "created", True, DUE, Standing("active", "pro")),
        ("active", "open", True, DUE, Standing("active", "pro")),
        ("active", "open", False, DUE, Standing("open")),
        ("active", "expired", True, DUE, Standing("active", "pro")),
        ("trialing", "open", True, DUE, Standing("active", "pro")),
        # A renewal's draft is unpaid for an hour: the plan stays.
        ("active", "active", False, DUE, Standing("active", "pro")),
        # A failed payment: the plan stays for the grace, to the second.
        ("past_due", "active", False, DUE, Standing("past_due", "pro", OVER)),
        ("past_due", "past_due", False, OVER - SECOND, Standing("past_due", "pro", OVER)),
        ("past_due", "past_due", False, OVER, Standing("past_due", "free", OVER, cancel=True)),
        # Events lost since the sign-up: a renewal that failed is still a subscription.
        ("past_due", "open", False, DUE, Standing("past_due", "pro", OVER)),
        # Paid again, before or after the grace was over.
        ("active", "past_due", True, OVER - SECOND, Standing("active", "pro")),
        ("active", "past_due", True, OVER + SECOND, Standing("active", "pro")),
        # Stripe gave up.
        ("unpaid", "past_due", False, DUE, Standing("past_due", "free", DUE, cancel=True)),
        ("paused", "active", False, DUE, Standing("past_due", "free", DUE, cancel=True)),
        # The end, which takes the plan from whom it gave one, and from nobody else.
        ("canceled", "active", True, DUE, Standing("ended", "free")),
        ("canceled", "past_due", False, DUE, Standing("ended", "free")),
        ("canceled", "open", False, DUE, Standing("ended")),
        # What has ended here stays so, and is canceled there.
        ("canceled", "ended", True, DUE, Standing("ended")),
        ("active", "ended", True, DUE, Standing("ended", cancel=True)),
        ("past_due", "ended", False, OVER, Standing("ended", cancel=True)),
    ],
)
def test_a_subscription_gives_what_the_table_says(status, was, paid, now, gives):
    assert entitlement.judge(status, "pro", was=was, paid=paid, failed_at=DUE, grace=GRACE, now=now) == gives


def test_without_grace_a_failed_payment_ends_the_plan_at_once():
    found = entitlement.judge(
        "past_due", "pro", was="active", paid=False, failed_at=DUE, grace=timedelta(0), now=DUE
    )

    assert found == Standing("past_due", "free", DUE, cancel=True)
