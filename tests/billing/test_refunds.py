"""What was not used goes back to the card, once, to the cent; what was given back at Stripe is booked."""

from __future__ import annotations

import pytest

from aggregator.lib.errors import Refusal
from billing import history, overview, reconcile, reserving, tasks
from billing.models import Alert, AutoTopUp, Dispute, Refund, TopUp, Wallet
from billing.payments import auto_top_ups, refunds, top_ups
from tests.billing import books, paying
from tests.billing.paying import CENT, DOLLAR

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def acme(stand):
    return paying.organization()


@pytest.fixture(autouse=True)
def books_hold(acme):
    """After each of these tests every invariant holds; their calls cost what the test says, by no price."""
    yield
    assert {finding.name for finding in reconcile.check(None) if not finding.holds} <= {"bills_recompute"}


def ask(organization, top_up):
    return refunds.ask(organization, top_up.pk, by=paying.owner(organization))


def test_the_unused_part_goes_back_in_whole_cents_and_less_than_a_cent_stays(stand, acme):
    top_up = paying.buy(stand, acme)
    paying.spend(acme, 7 * DOLLAR + 1)

    refund = ask(acme, top_up)

    assert (refund.state, refund.cents, refund.reason) == (Refund.State.SUCCEEDED, 12_99, "unused_credit")
    assert [made["amount"] for made in stand.look("objects").get("refund", [])] == [12_99]
    assert paying.balance(acme) == paying.spendable(acme) == CENT - 1
    assert books.entries_sum("stripe_cash") == -701 * CENT
    assert paying.letters(acme) == ["refund_made"]
    assert history.page(acme.pk, kind=history.PAYMENTS).rows[0].detail == "paid back"


def test_calls_that_ended_but_are_not_posted_are_not_paid_back(stand, acme):
    top_up = paying.buy(stand, acme)
    paying.spend(acme, 15 * DOLLAR, post=False)
    refunded = ask(acme, top_up)

    paying.posting.post_generations()

    assert refunded.cents == 5_00
    assert paying.balance(acme) == 0


def test_what_a_call_under_way_holds_is_not_paid_back(stand, acme):
    top_up = paying.buy(stand, acme)
    with reserving.credit(acme.pk, 5 * DOLLAR):  # a hold as a call's
        assert ask(acme, top_up).cents == 15_00

    assert paying.balance(acme) == paying.spendable(acme) == 5 * DOLLAR


def test_tax_goes_back_in_proportion_and_over_all_refunds_exactly(stand, acme, settings):
    settings.STRIPE_TAX = True
    top_up = paying.buy(stand, acme, 10_03)
    assert top_up.tax_cents == 1_00
    paying.spend(acme, 333 * CENT)

    refund = ask(acme, top_up)

    assert (refund.cents, refund.tax_cents) == (670 + 66, 66)
    assert books.entries_sum("tax") == 34 * CENT
    stand.client().v1.refunds.create({"payment_intent": top_up.payment_intent_id})
    refunds.refresh_charge(top_up.charge_id)
    given = Refund.objects.of(acme)
    assert sum(each.cents for each in given) == 11_03
    assert sum(each.tax_cents for each in given) == 1_00
    assert (books.entries_sum("tax"), books.entries_sum("stripe_cash")) == (0, 0)


def test_of_several_top_ups_each_gives_back_its_own(stand, acme):
    older, newer = paying.buy(stand, acme, 20_00), paying.buy(stand, acme, 30_00)
    paying.spend(acme, 12 * DOLLAR)

    assert ask(acme, newer).cents == 30_00
    assert ask(acme, older).cents == 8_00
    assert paying.balance(acme) == 0


def test_what_is_paid_back_is_not_charged_again_by_itself(stand, acme):
    top_up = paying.buy(stand, acme, save_card=True)
    values = {"threshold_nanos": 5 * DOLLAR, "cents": 20_00, "monthly_cap_cents": 100_00}
    auto_top_ups.set(acme, enabled=True, by=paying.owner(acme), **values)

    ask(acme, top_up)

    assert auto_top_ups.top_up_wallets() == 0
    assert AutoTopUp.objects.of(acme).get().paused_because == "refund"


def test_thirty_two_who_ask_at_once_get_one_refund(stand, acme):
    top_up = paying.buy(stand, acme)

    said = paying.at_once(32, lambda: ask(acme, top_up))

    made = [each for each in said if isinstance(each, Refund)]
    refused = [each for each in said if not isinstance(each, Refund)]
    assert {each.error_type for each in refused} <= {"nothing_to_refund", "service_unavailable"}
    assert sum(each.cents for each in made) == 20_00
    assert sum(each["amount"] for each in stand.look("objects").get("refund", [])) == 20_00
    assert paying.balance(acme) == paying.spendable(acme) == 0


def test_f48_a_refund_whose_answer_was_lost_is_paid_once(stand, acme, once):
    top_up = paying.buy(stand, acme)
    stand.mishap("POST /v1/refunds", "lose")
    refund = ask(acme, top_up)
    assert (refund.state, paying.balance(acme)) == (Refund.State.CREATED, 0)
    paying.age(refund, minutes=5)

    tasks.settle_payments()

    refund.refresh_from_db()
    (made,) = stand.look("objects").get("refund", [])
    assert (refund.state, refund.stripe_id) == (Refund.State.SUCCEEDED, made["id"])
    assert len(paying.postings("refund")) == 1


@pytest.mark.parametrize(("older", "made"), [({"minutes": 5}, 1), ({"hours": 30}, 0)])
def test_a_refund_that_never_reached_stripe_is_asked_again_but_never_after_a_day(
    stand, acme, once, older, made
):
    top_up = paying.buy(stand, acme)
    stand.mishap("POST /v1/refunds", "limit")
    refund = ask(acme, top_up)
    paying.age(refund, **older)

    tasks.settle_payments()

    refund.refresh_from_db()
    assert len(stand.look("objects").get("refund", [])) == made
    assert refund.state == (Refund.State.SUCCEEDED if made else Refund.State.FAILED)
    assert paying.balance(acme) == paying.spendable(acme) == (0 if made else 20 * DOLLAR)


def test_an_event_of_a_refund_whose_answer_was_lost_finds_our_row(stand, acme, once):
    top_up = paying.buy(stand, acme)
    stand.mishap("POST /v1/refunds", "lose")
    refund = ask(acme, top_up)
    (made,) = stand.look("objects").get("refund", [])

    assert refunds.refresh(made["id"]) == "refund succeeded"

    assert Refund.objects.of(acme).get().stripe_id == made["id"]
    refunds.refresh_charge(top_up.charge_id)
    assert len(paying.postings("refund")) == 1
    refund.refresh_from_db()
    assert refund.state == Refund.State.SUCCEEDED


def test_credit_comes_back_when_the_bank_cannot_take_the_refund(stand, acme):
    top_up = paying.buy(stand, acme)
    refund = ask(acme, top_up)
    stand.control("refunds/fail", refund=refund.stripe_id)

    for _ in range(2):
        refunds.refresh(refund.stripe_id)

    refund.refresh_from_db()
    assert refund.state == Refund.State.FAILED
    assert paying.balance(acme) == paying.spendable(acme) == 20 * DOLLAR
    assert paying.alerts() == ["refund"]
    assert paying.letters(acme) == ["refund_failed", "refund_made"]
    assert ask(acme, top_up).cents == 20_00


def test_what_stripe_refuses_to_pay_back_is_credit_again(stand, acme):
    top_up = paying.buy(stand, acme)
    stand.client().v1.refunds.create({"payment_intent": top_up.payment_intent_id})  # nobody has told us yet

    refund = ask(acme, top_up)

    assert refund.state == Refund.State.FAILED
    assert paying.balance(acme) == 20 * DOLLAR
    refunds.refresh_charge(top_up.charge_id)
    assert paying.balance(acme) == 0


def test_a_refund_that_we_gave_up_but_stripe_paid_is_told_to_operators(stand, acme, once):
    top_up = paying.buy(stand, acme)
    stand.mishap("POST /v1/refunds", "lose")
    refund = ask(acme, top_up)
    refunds._turn(refund, Refund.State.FAILED, "Stripe never heard of it")
    (made,) = stand.look("objects").get("refund", [])

    for _ in range(2):
        assert refunds.refresh(made["id"]) == "refund is failed"

    assert paying.balance(acme) == 20 * DOLLAR
    assert f"{refund.pk} paid" in Alert.objects.values_list("subject", flat=True)


def test_giving_back_a_payment_that_was_never_credited_takes_no_credit(stand, acme):
    """Operators are told to look at a payment that does not fit; giving it back is what they will do."""
    paying.buy(stand, acme)
    odd, url = paying.begin(acme, 10_00)
    assert stand.pay(url).status_code == 303
    session = stand.client().v1.checkout.sessions.retrieve(odd.session_id)
    TopUp.objects.of(acme).filter(pk=odd.pk).update(cents=9_00, payment_intent_id=session.payment_intent)
    assert "not credited" in top_ups.refresh_session(odd.session_id)
    made = stand.client().v1.refunds.create({"payment_intent": session.payment_intent})

    assert refunds.refresh(made.id) == "a refund of no payment of ours"

    assert paying.balance(acme) == paying.spendable(acme) == 20 * DOLLAR
    assert paying.alerts() == ["payment", "refund"]


def test_money_given_back_in_stripes_dashboard_leaves_the_wallet_and_the_rest_is_our_loss(stand, acme):
    top_up = paying.buy(stand, acme)
    paying.spend(acme, 15 * DOLLAR)
    made = stand.client().v1.refunds.create({"payment_intent": top_up.payment_intent_id, "amount": 12_00})

    for _ in range(2):
        refunds.refresh(made.id)
        refunds.refresh_charge(top_up.charge_id)

    refund = Refund.objects.of(acme).get()
    assert (refund.asked_by, refund.cents) == ("system:stripe", 12_00)
    assert paying.balance(acme) == paying.spendable(acme) == 0
    assert books.entries_sum("loss") == -7 * DOLLAR
    assert paying.alerts() == ["refund"]


def test_a_refund_seen_at_stripe_takes_its_own_top_up_first_and_then_others(stand, acme):
    older, newer = paying.buy(stand, acme, 10_00), paying.buy(stand, acme, 20_00)
    paying.spend(acme, 4 * DOLLAR)
    stand.client().v1.refunds.create({"payment_intent": older.payment_intent_id})

    refunds.refresh_charge(older.charge_id)

    assert paying.balance(acme) == 16 * DOLLAR
    assert books.entries_sum("loss") == 0
    assert ask(acme, newer).cents == 16_00


def test_a_refund_of_a_payment_that_is_none_of_ours_moves_nothing_and_is_told(stand, acme):
    params = {"amount": 20_00, "currency": "usd", "customer": paying.customers.ensure(acme, email="a@b.cc")}
    params |= {"payment_method": paying.save_card(stand, acme), "off_session": True, "confirm": True}
    intent = stand.client().v1.payment_intents.create(params)
    made = stand.client().v1.refunds.create({"payment_intent": intent.id})

    assert refunds.refresh(made.id) == "a refund of no payment of ours"

    assert paying.alerts() == ["refund"]
    assert paying.postings("refund") == []


def test_the_page_offers_to_pay_back_what_is_paid_back_when_asked_and_nothing_else(stand, acme):
    top_up = paying.buy(stand, acme)
    dispute = Dispute.objects.create(
        organization=acme,
        stripe_id="du_1",
        charge_id=str(top_up.charge_id),
        top_up=top_up,
        cents=top_up.cents,
        opened_at=top_up.created_at,
    )
    wallet = Wallet.objects.of(acme)
    for status, frozen_at in (("needs_response", None), ("won", None), ("warning_closed", acme.created_at)):
        wallet.update(frozen_at=frozen_at, frozen_because="operator" if frozen_at else "")
        Dispute.objects.of(acme).filter(pk=dispute.pk).update(status=status)
        assert overview.refundable(acme) == []
        with pytest.raises(Refusal):
            ask(acme, top_up)

    wallet.update(frozen_at=None, frozen_because="")
    assert [left.top_up for left in overview.refundable(acme)] == [top_up]
    assert ask(acme, top_up).cents == top_up.cents
    assert overview.refundable(acme) == []


def test_what_may_not_be_paid_back_is_refused_and_says_why(stand, acme):
    top_up = paying.buy(stand, acme)
    waiting, _ = paying.begin(acme, 10_00)
    other = paying.organization("other")
    cases = [
        (lambda: ask(other, top_up), "not_found", 404),
        (lambda: refunds.ask(acme, "not-an-id", by=None), "not_found", 404),
        (lambda: ask(acme, waiting), "not_refundable", 409),
        (lambda: ask(acme, top_up) and ask(acme, top_up), "nothing_to_refund", 409),
    ]
    for asked, said, status in cases:
        with pytest.raises(Refusal) as refused:
            asked()
        assert (refused.value.error_type, refused.value.status) == (said, status)
    Wallet.objects.of(acme).update(frozen_at=acme.created_at, frozen_because="operator")
    with pytest.raises(Refusal) as refused:
        ask(acme, paying.TopUp.objects.of(acme).get(pk=top_up.pk))
    assert (refused.value.error_type, refused.value.status) == ("account_suspended", 402)
    assert top_ups.look(waiting).state == TopUp.State.OPEN
