"""Credit is kept by where it came from: promotions burn first, what is refunded comes off its own lot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, connection

from billing import ledger, lots
from billing.core.chart import DISCOUNT, LOSS, PROMOTION, PROVIDER_COST, STRIPE_CASH, WALLET
from billing.models import CreditLot
from tests.billing import books

pytestmark = pytest.mark.django_db

NEXT_MONTH = datetime.now(tz=UTC) + timedelta(days=30)
OTHER_SIDE = {
    "grant": PROMOTION,
    "expiry": PROMOTION,
    "rebate": DISCOUNT,
    "usage": PROVIDER_COST,
    "write_off": LOSS,
}


@pytest.fixture
def acme(settings):
    settings.STARTING_CREDIT_USD = 0
    return books.make_organization(usd="0")


def move(organization, kind, nanos, source_id=None, **more):
    other = OTHER_SIDE.get(kind, STRIPE_CASH)
    return ledger.post(
        kind,
        source_id or f"{kind} of {nanos}",
        entries={(WALLET, organization.pk): nanos, (other, None): -nanos},
        organization_id=organization.pk,
        **more,
    )


def left(organization):
    """Posting kind and what is left, in the order in which it burns."""
    return [(lot.posting_kind, lot.remaining) for lot in lots.burning(organization.pk)]


def test_promotions_burn_first_then_rebates_then_what_was_paid(acme):
    move(acme, "top_up", 10)
    move(acme, "rebate", 10)
    move(acme, "grant", 10)
    assert left(acme) == [("grant", 10), ("rebate", 10), ("top_up", 10)]

    move(acme, "usage", -13)
    assert left(acme) == [("rebate", 7), ("top_up", 10)]
    move(acme, "usage", -8)
    assert left(acme) == [("top_up", 9)]


def test_of_promotions_the_one_that_expires_first_burns_first_and_the_older_of_two_alike(acme):
    for_ever = move(acme, "grant", 5, "for ever")
    late = move(acme, "grant", 5, "late", expires_at=NEXT_MONTH)
    soon = move(acme, "grant", 5, "soon", expires_at=NEXT_MONTH - timedelta(days=1))
    late_too = move(acme, "grant", 5, "late too", expires_at=NEXT_MONTH)

    assert [lot.posting_id for lot in lots.burning(acme.pk)] == [soon, late, late_too, for_ever]
    move(acme, "usage", -12)
    assert [lots.remaining(each) for each in (soon, late, late_too, for_ever)] == [0, 0, 3, 5]


def test_a_refund_takes_from_the_top_up_that_it_refunds_before_anything_else(acme):
    first = move(acme, "top_up", 10, "pi_1")
    second = move(acme, "top_up", 10, "pi_2")
    move(acme, "grant", 5)

    move(acme, "refund", -8, from_posting=second)
    assert (lots.remaining(first), lots.remaining(second)) == (10, 2)
    move(acme, "dispute", -4, from_posting=second)  # two are left of it: the rest burns in order

    assert left(acme) == [("grant", 3), ("top_up", 10)]


def test_refundable_is_what_was_paid_and_is_left_the_newest_first(acme):
    first = move(acme, "top_up", 10, "pi_1")
    second = move(acme, "top_up", 10, "pi_2")
    third = move(acme, "top_up", 10, "pi_3")
    move(acme, "grant", 5)
    move(acme, "rebate", 5)
    move(acme, "refund", -10, from_posting=third)
    move(acme, "usage", -14)

    found = lots.refundable(acme.pk)

    assert [(lot.posting_id, lot.source_id, lot.nanos, lot.remaining) for lot in found] == [
        (second, "pi_2", 10, 10),
        (first, "pi_1", 10, 6),
    ]


def test_credit_fills_the_hole_before_anything_of_it_is_left(acme):
    move(acme, "usage", -30)
    assert left(acme) == []

    paid = move(acme, "top_up", 20, "pi_1")
    assert left(acme) == []
    more = move(acme, "top_up", 15, "pi_2")

    assert (lots.remaining(paid), lots.remaining(more)) == (0, 5)
    assert books.balance(acme) == 5


def test_a_refund_that_failed_is_undone_as_it_was_recorded_into_the_lot_it_came_from(acme):
    paid = move(acme, "top_up", 20, "pi_1")
    refund = ledger.post(
        "refund",
        "re_1",
        entries={(WALLET, acme.pk): -15, (LOSS, None): -3, (STRIPE_CASH, None): 18},
        organization_id=acme.pk,
        from_posting=paid,
    )

    back = ledger.reverse("refund_failed", "re_1", of=refund)

    assert ledger.reverse("refund_failed", "re_1", of=refund) == back
    assert lots.remaining(paid) == 20
    assert CreditLot.objects.of(acme).count() == 1
    assert books.balance(acme) == 20
    assert (books.entries_sum(LOSS), books.entries_sum(STRIPE_CASH)) == (0, -20)


def test_what_comes_back_beyond_what_its_lot_once_held_is_new_paid_credit(acme):
    paid = move(acme, "top_up", 20, "pi_1")
    dispute = move(acme, "dispute", -50, "dp_1", from_posting=paid)
    move(acme, "top_up", 40, "pi_2")  # thirty were owed
    assert books.balance(acme) == 10

    won = ledger.reverse("dispute_won", "dp_1", of=dispute)

    assert (lots.remaining(paid), lots.remaining(won)) == (20, 30)
    assert sum(nanos for _, nanos in left(acme)) == books.balance(acme) == 60


def test_a_posting_is_reversed_once_whoever_asks(acme):
    refund = move(acme, "refund", -5, "re_1", from_posting=move(acme, "top_up", 20, "pi_1"))
    ledger.reverse("refund_failed", "re_1", of=refund)

    with pytest.raises(ledger.AlreadyReversed):
        ledger.reverse("refund_failed", "re_2", of=refund)
    with pytest.raises(ValueError, match="no posting"):
        ledger.reverse("refund_failed", "re_3", of=refund + 1000)
    assert books.balance(acme) == 20


def test_many_postings_of_many_organizations_move_their_lots_in_one_go_as_one_by_one(acme):
    other = books.make_organization("other", usd="0")

    def draft(organization, kind, nanos, **more):
        entries = {(WALLET, organization.pk): nanos, (OTHER_SIDE.get(kind, STRIPE_CASH), None): -nanos}
        return ledger.Draft(kind, f"{organization.pk} {kind} {nanos}", entries, organization.pk, **more)

    ledger.post_all(
        [
            draft(acme, "usage", -5),
            draft(other, "top_up", 7),
            draft(acme, "top_up", 20),
            draft(other, "grant", 3),
            draft(acme, "usage", -4),
            draft(other, "usage", -4),
        ]
    )

    assert left(acme) == [("top_up", 11)]
    assert left(other) == [("top_up", 6)]


def test_only_promotions_expire_and_nobody_names_a_posting_of_another(acme):
    other = books.make_organization("other", usd="0")
    theirs = move(other, "top_up", 10, "pi_other")

    with pytest.raises(ValueError, match="does not expire"):
        move(acme, "top_up", 10, expires_at=NEXT_MONTH)
    with pytest.raises(ValueError, match="no posting"):
        move(acme, "refund", -10, from_posting=theirs)
    with pytest.raises(ValueError, match="another organization"):
        ledger.post(
            "top_up",
            "x",
            entries={(WALLET, other.pk): 10, (STRIPE_CASH, None): -10},
            organization_id=acme.pk,
        )


@pytest.mark.parametrize("change", ["nanos = nanos + 1", "expires_at = now()", "rank = 1"])
def test_of_a_lot_nothing_changes_but_what_is_left(acme, change):
    move(acme, "grant", 5)

    with pytest.raises(DatabaseError, match="Cannot update"), connection.cursor() as cursor:
        cursor.execute(f"UPDATE billing_creditlot SET {change}")
