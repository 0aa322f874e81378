"""Usage as providers should not state it: what can be true is billed as stated, the rest as we count it.

Whatever is stated, a call is settled once, within its hold, and the record says that something was odd.
"""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.xdist_group("gateway"), pytest.mark.parametrize("streamed", [False, True])]


def settled(caller, desk, model, streamed):
    """The usage that the customer is shown, and the one generation; both say the same."""
    usage = caller.stream(model).usage if streamed else caller.chat(model).json()["usage"]
    (row,) = desk.await_generations(caller.organization, 1, posted=True)
    assert row["status"] == "completed" and usage["cost_nanos"] == row["charge_nanos"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (row["input"], row["output"])
    wallet = desk.await_no_holds(caller.organization)
    assert wallet.funds == 10 * 10**9 - row["charge_nanos"] == wallet.credit - wallet.spent
    return row


@pytest.mark.parametrize("form", ["twice", "with-choices", "growing"])
def test_usage_in_an_odd_place_is_billed_as_stated(caller, desk, sandbox, form, streamed):
    row = settled(caller, desk, f"sandbox/fault-usage-{form}", streamed)

    assert row["charge_nanos"] == sandbox.charge(row["upstream_id"])
    assert not row["estimated"] and "odd_usage" not in row["decision"]


def test_a_stated_zero_is_a_figure_and_not_a_missing_one(caller, desk, streamed):
    row = settled(caller, desk, "sandbox/fault-usage-zero", streamed)

    assert (row["input"], row["output"], row["charge_nanos"], row["estimated"]) == (0, 0, 0, False)
    assert row["decision"]["odd_usage"] == "zero"


@pytest.mark.parametrize("form", ["negative", "huge", "text", "nonsense", "list"])
def test_usage_that_cannot_be_true_is_counted(caller, desk, sandbox, form, streamed):
    row = settled(caller, desk, f"sandbox/fault-usage-{form}", streamed)

    odd = "impossible" if form == "huge" else "unreadable"
    assert row["estimated"] and row["decision"]["odd_usage"] == odd
    assert row["loss_nanos"] == 0
    assert 6 <= row["output"] <= 30  # twelve pieces of text were sent
    true = sandbox.charge(row["upstream_id"])
    assert true / 3 <= row["charge_nanos"] <= true * 3


def test_the_odd_word_about_usage_never_reaches_the_customer(caller, streamed):
    model = "sandbox/fault-usage-list"
    if streamed:
        stream = caller.stream(model)
        shown = [chunk["usage"] for chunk in stream.chunks if chunk.get("usage") is not None]
        assert stream.done and len(shown) == 1 and shown[0]["cost_nanos"] > 0
    else:
        assert caller.chat(model).json()["usage"]["cost_nanos"] > 0
