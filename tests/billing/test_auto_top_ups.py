"""The saved card is charged when credit runs low: once, within the cap, and not again after a decline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from aggregator.lib.errors import Refusal
from billing import freezing, letters, tasks
from billing.models import AutoTopUp, Card, Letter, TopUp
from billing.payments import auto_top_ups, top_ups
from tests.billing import books, paying, stripe_stand
from tests.billing.paying import DOLLAR

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def acme(stand):
    return paying.organization()


def turn_on(acme, *, card="pm_card_visa", threshold=5 * DOLLAR, cents=20_00, cap=100_00):
    """The card that was saved."""
    made = paying.save_card(stripe_stand.running(), acme, card)
    values = {"threshold_nanos": threshold, "cents": cents, "monthly_cap_cents": cap}
    auto_top_ups.set(acme, enabled=True, by=paying.owner(acme), **values)
    return made


def run() -> list[str]:
    """What the jobs do: begin what is due, then charge each."""
    begun = auto_top_ups.top_up_wallets()
    rows = TopUp.unscoped.filter(kind="auto", state="created").order_by("-created_at")[:begun]
    return [auto_top_ups.charge(str(row.pk)) for row in rows]


def test_a_wallet_that_runs_low_is_topped_up_and_the_credit_is_there_at_once(stand, acme):
    card = turn_on(acme)

    assert run() == ["credited"]

    row = TopUp.objects.of(acme).get()
    assert (row.kind, row.state, row.payment_method_id) == ("auto", TopUp.State.PAID, card)
    assert paying.balance(acme) == paying.spendable(acme) == 20 * DOLLAR
    assert run() == []
    assert top_ups.refresh_intent(row.payment_intent_id) == "credited already"
    assert len(paying.postings("top_up")) == 1


def test_funds_are_what_is_neither_spent_nor_waiting_to_be_posted_nor_lent(stand, acme):
    turn_on(acme)
    run()
    paying.spend(acme, 15 * DOLLAR, post=False)
    assert run() == [], "five dollars are not below five dollars"

    paying.spend(acme, 1, post=False)

    assert run() == ["credited"]
    type(paying.wallets.open_wallet(acme.pk)).objects.of(acme).update(credit_limit_nanos=1000 * DOLLAR)
    paying.spend(acme, 20 * DOLLAR)
    assert run() == ["credited"], "a limit of credit is no money of theirs"


def test_however_many_workers_look_one_top_up_is_begun_and_charged_once(stand, acme):
    turn_on(acme)

    begun = paying.at_once(8, auto_top_ups.top_up_wallets)
    row = TopUp.objects.of(acme).get()
    said = paying.at_once(4, lambda: auto_top_ups.charge(str(row.pk)))

    assert sum(begun) == 1
    assert "credited" in said
    assert len(paying.there(stand, acme, "charge")) == 1
    assert paying.balance(acme) == 20 * DOLLAR


def test_f48_a_charge_whose_answer_was_lost_is_one_charge_and_one_credit(stand, acme, once):
    turn_on(acme)
    stand.mishap("POST /v1/payment_intents", "lose")
    assert run() == ["no answer"]
    row = TopUp.objects.of(acme).get()
    assert row.state == TopUp.State.CREATED
    assert run() == [], "one is under way"

    assert auto_top_ups.charge(str(row.pk)) == "credited"

    assert len(paying.there(stand, acme, "charge")) == 1
    assert paying.balance(acme) == 20 * DOLLAR


@pytest.mark.parametrize("older", [{"minutes": 5}, {"hours": 30}])
def test_f48_the_sweep_asks_what_came_of_a_lost_charge_before_it_charges_again(stand, acme, once, older):
    turn_on(acme)
    stand.mishap("POST /v1/payment_intents", "lose")
    run()
    row = TopUp.objects.of(acme).get()
    # Stripe has its own clock: that the payment is younger than our row changes nothing.
    paying.age(row, **older)

    tasks.settle_payments()

    assert len(paying.there(stand, acme, "charge")) == 1
    assert paying.balance(acme) == 20 * DOLLAR


@pytest.mark.parametrize(("older", "charges"), [({"minutes": 5}, 1), ({"hours": 30}, 0)])
def test_a_charge_that_never_reached_stripe_is_made_later_but_never_after_a_day(
    stand,
    acme,
    once,
    older,
    charges,
):
    turn_on(acme)
    stand.mishap("POST /v1/payment_intents", "limit")
    assert run() == ["no answer"]
    row = TopUp.objects.of(acme).get()
    paying.age(row, **older)

    tasks.settle_payments()

    row.refresh_from_db()
    assert row.state == (TopUp.State.PAID if charges else TopUp.State.EXPIRED)
    assert len(paying.there(stand, acme, "charge")) == charges


@pytest.mark.parametrize("because", ["turned off", "frozen"])
def test_a_charge_that_waited_in_the_queue_is_not_made_when_it_is_no_longer_wanted(stand, acme, because):
    turn_on(acme)
    assert auto_top_ups.top_up_wallets() == 1
    row = TopUp.objects.of(acme).get()
    if because == "frozen":
        freezing.freeze(acme.pk, "dispute", by="stripe")
    else:
        AutoTopUp.objects.of(acme).update(enabled=False)

    assert auto_top_ups.charge(str(row.pk)) == "no longer wanted"

    assert paying.there(stand, acme, "charge") == []
    paying.age(row, minutes=5)
    tasks.settle_payments()
    row.refresh_from_db()
    assert row.state == TopUp.State.EXPIRED


def test_who_turned_it_off_meanwhile_is_not_charged_by_the_sweep(stand, acme, once):
    turn_on(acme)
    stand.mishap("POST /v1/payment_intents", "limit")
    run()
    row = TopUp.objects.of(acme).get()
    paying.age(row, minutes=5)
    AutoTopUp.objects.of(acme).update(enabled=False)

    tasks.settle_payments()

    assert paying.there(stand, acme, "charge") == []
    row.refresh_from_db()
    assert row.state == TopUp.State.EXPIRED


@pytest.mark.parametrize(
    ("card", "code"),
    [
        ("pm_card_chargeCustomerFail", "generic_decline"),
        ("pm_card_authenticationRequired", "authentication_required"),
    ],
)
def test_a_decline_pauses_and_says_what_to_do_and_resuming_tries_again(
    stand,
    acme,
    card,
    code,
    mailoutbox,
):
    turn_on(acme, card=card)

    assert run() == [f"declined: {code}"]

    row, setting = TopUp.objects.of(acme).get(), AutoTopUp.objects.of(acme).get()
    assert (row.state, row.failure_code) == (TopUp.State.FAILED, code)
    assert (setting.paused_because, setting.enabled, paying.balance(acme)) == (code, True, 0)
    assert run() == []
    assert top_ups.refresh_intent(row.payment_intent_id) == "top-up stays failed"
    assert paying.letters(acme) == ["auto_top_up_failed"]
    assert letters.send(str(Letter.objects.of(acme).get().pk))
    assert "$20.00" in mailoutbox[0].body
    assert "Resume" in mailoutbox[0].body
    paying.save_card(stand, acme)
    auto_top_ups.resume(acme, by=paying.owner(acme))
    assert run() == ["credited"]


def test_a_decline_that_an_event_tells_of_first_pauses_as_well(stand, acme, once):
    turn_on(acme, card="pm_card_chargeCustomerFail")
    stand.mishap("POST /v1/payment_intents", "lose")
    assert run() == ["no answer"]
    (intent,) = paying.there(stand, acme, "payment_intent")

    assert top_ups.refresh_intent(intent["id"]) == "declined: generic_decline"

    assert AutoTopUp.objects.of(acme).get().paused_because == "generic_decline"
    assert paying.letters(acme) == ["auto_top_up_failed"]


def test_cards_are_not_tried_out_by_resuming(stand, acme):
    turn_on(acme, card="pm_card_chargeCustomerFail")
    for _ in range(auto_top_ups.MOST_DECLINES - 1):
        run()
        auto_top_ups.resume(acme, by=paying.owner(acme))
    run()

    with pytest.raises(Refusal) as refused:
        auto_top_ups.resume(acme, by=paying.owner(acme))

    assert (refused.value.error_type, refused.value.status) == ("too_many_declines", 429)
    AutoTopUp.objects.of(acme).update(enabled=False)
    with pytest.raises(Refusal) as refused:
        turn_on(acme)
    assert refused.value.error_type == "too_many_declines", "off and on again is no way around"
    assert run() == []


def test_f50_the_cap_counts_a_month_of_utc_and_the_next_begins_at_its_first_instant(stand, acme):
    turn_on(acme, cap=50_00, cents=25_00, threshold=1000 * DOLLAR)
    end = datetime(2026, 12, 31, 23, 59, 58, tzinfo=UTC)
    with time_machine.travel(end - timedelta(days=20), tick=False):
        assert run() == ["credited"]
    with time_machine.travel(end, tick=False):
        assert run() == ["credited"]
        assert run() == run() == []
        assert paying.letters(acme) == ["auto_top_up_capped"]
        with CaptureQueriesContext(connection) as asked:
            assert auto_top_ups.top_up_wallets() == 0
        assert len(asked) == 2, "who was told is not looked at again every five seconds"
        assert AutoTopUp.objects.of(acme).get().paused_at is None
    with time_machine.travel(end + timedelta(seconds=2), tick=False):
        assert run() == ["credited"]
        assert run() == ["credited"]
        assert run() == []

    assert paying.letters(acme) == ["auto_top_up_capped"] * 2
    assert paying.balance(acme) == 100 * DOLLAR


def test_tax_is_reckoned_once_and_comes_on_top_of_a_charge_that_is_made_alone(stand, acme, once, settings):
    settings.STRIPE_TAX = True
    turn_on(acme)
    assert run() == ["declined: customer_tax_location_invalid"], "nobody knows where they are"
    stand.client().v1.customers.update(paying.customer_of(acme), {"address": {"country": "US"}})
    auto_top_ups.resume(acme, by=paying.owner(acme))
    stand.mishap("POST /v1/payment_intents", "lose")
    assert run() == ["no answer"]
    row = TopUp.objects.of(acme).get(state=TopUp.State.CREATED)

    assert auto_top_ups.charge(str(row.pk)) == "credited"

    (charge,) = paying.there(stand, acme, "charge")
    row.refresh_from_db()
    assert (row.cents, row.tax_cents, charge["amount"]) == (20_00, 2_00, 22_00)
    assert (paying.balance(acme), books.entries_sum("tax")) == (20 * DOLLAR, 2 * DOLLAR)


def test_a_suspended_account_is_not_charged(stand, acme):
    turn_on(acme)
    freezing.freeze(acme.pk, "operator", by="operator")

    assert run() == []

    assert TopUp.objects.of(acme).count() == 0


def test_without_a_card_it_cannot_be_turned_on_and_pauses_when_the_card_goes(stand, acme):
    with pytest.raises(Refusal) as refused:
        values = {"threshold_nanos": 0, "cents": 20_00, "monthly_cap_cents": 20_00}
        auto_top_ups.set(acme, enabled=True, by=paying.owner(acme), **values)
    assert (refused.value.error_type, refused.value.status) == ("no_card", 409)
    turn_on(acme)
    Card.objects.of(acme).update(is_default=False)

    assert run() == run() == []

    assert AutoTopUp.objects.of(acme).get().paused_because == "no_card"
    assert paying.letters(acme) == ["auto_top_up_failed"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cents": 4_99}, "amount_too_small"),
        ({"threshold_nanos": -1}, "invalid_threshold"),
        ({"monthly_cap_cents": 19_99}, "cap_too_small"),
    ],
)
def test_what_makes_no_sense_is_refused(stand, acme, change, said):
    values = {"threshold_nanos": 0, "cents": 20_00, "monthly_cap_cents": 20_00} | change

    with pytest.raises(Refusal) as refused:
        auto_top_ups.set(acme, enabled=False, by=paying.owner(acme), **values)

    assert refused.value.error_type == said
