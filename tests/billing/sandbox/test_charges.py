"""The simulated Stripe as stripe-python sees it: saved cards that are charged, refunds, disputes."""

from __future__ import annotations

import pytest
import stripe

from tests.billing.sandbox.buying import STAND, V1, card, charge, customer


@pytest.fixture(autouse=True)
def _anew() -> None:
    STAND.reset()


def test_a_decline_off_session_is_a_402_with_the_intent():
    owner = customer()
    method = card(owner, "pm_card_chargeCustomerFail")

    with pytest.raises(stripe.CardError) as refused:
        charge(owner, method.id)

    intent = V1.payment_intents.retrieve(refused.value.error.payment_intent.id)
    assert refused.value.error.decline_code == "generic_decline"
    assert intent.last_payment_error.code == "card_declined"
    assert len(STAND.events("payment_intent.payment_failed")) == 1


def test_refunds_add_up_to_the_charge_and_no_further():
    intent = charge(owner := customer(), card(owner).id)

    V1.refunds.create({"payment_intent": intent.id, "amount": 400, "metadata": {"refund": "1"}})
    with pytest.raises(stripe.InvalidRequestError):
        V1.refunds.create({"payment_intent": intent.id, "amount": 601})
    V1.refunds.create({"payment_intent": intent.id})
    with pytest.raises(stripe.InvalidRequestError) as again:
        V1.refunds.create({"payment_intent": intent.id})

    assert again.value.code == "charge_already_refunded"
    assert V1.charges.retrieve(intent.latest_charge).refunded
    moved = V1.balance_transactions.list({"type": "refund"}).data
    assert sorted(each.net for each in moved) == [-600, -400]


def test_a_refund_may_fail_later_and_the_money_is_back():
    intent = charge(owner := customer(), card(owner).id)
    refund = V1.refunds.create({"payment_intent": intent.id})

    STAND.control("refunds/fail", refund=refund.id)

    failed = V1.refunds.retrieve(refund.id, {"expand": ["failure_balance_transaction"]})
    assert (failed.status, failed.failure_balance_transaction.net) == ("failed", 1000)
    assert V1.charges.retrieve(intent.latest_charge).amount_refunded == 0
    assert len(STAND.events("refund.failed")) == 1


@pytest.mark.parametrize(("won", "nets"), [(True, [-2500, 1000]), (False, [-2500])])
def test_a_dispute_takes_the_money_and_ends_won_or_lost(won: bool, nets: list[int]):
    intent = charge(owner := customer(), card(owner, "pm_card_createDispute").id)
    (dispute,) = V1.disputes.list({"payment_intent": intent.id}).data
    assert dispute.status == "needs_response"

    if won:
        STAND.control("disputes/resolve", dispute=dispute.id, won=True)
    else:
        V1.disputes.close(dispute.id)

    ended = V1.disputes.retrieve(dispute.id)
    assert ended.status == ("won" if won else "lost")
    assert [each.net for each in ended.balance_transactions] == nets
    with pytest.raises(stripe.InvalidRequestError, match="charged back"):
        V1.refunds.create({"charge": dispute.charge})


def test_a_balance_transaction_may_come_after_the_charge():
    STAND.control("fees", late=True)
    intent = charge(owner := customer(), card(owner).id)
    assert V1.charges.retrieve(intent.latest_charge).balance_transaction is None

    assert STAND.control("fees", late=False) == {"written": 1}

    whole = V1.charges.retrieve(intent.latest_charge, {"expand": ["balance_transaction"]})
    assert whole.balance_transaction.fee == 59
    assert len(STAND.events("charge.updated")) == 1


def test_an_early_fraud_warning_is_actionable_until_the_refund():
    intent = charge(owner := customer(), card(owner, "pm_card_createIssuerFraudRecord").id)
    (warning,) = V1.radar.early_fraud_warnings.list({"payment_intent": intent.id}).data
    assert warning.actionable

    V1.refunds.create({"payment_intent": intent.id})

    assert not V1.radar.early_fraud_warnings.retrieve(warning.id).actionable


def test_an_intent_can_be_canceled_once():
    intent = V1.payment_intents.create({"amount": 500, "currency": "usd"})

    assert V1.payment_intents.cancel(intent.id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError):
        V1.payment_intents.cancel(intent.id)


@pytest.mark.parametrize(("amount", "code"), [(49, "amount_too_small"), (100_000_000, "amount_too_large")])
def test_an_amount_has_bounds(amount: int, code: str):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        V1.payment_intents.create({"amount": amount, "currency": "usd"})

    assert refused.value.code == code
