"""Bugs that the ledger's code could have: each is sown into its real sources, and must be found.

They were written before the machine that finds them; what it cannot find proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection

from billing import burning, expiry, ledger, posting
from billing.core import chain
from tests.billing.protocol.seeded import Bug, statement


@dataclass(frozen=True, slots=True)
class WithoutIndex:
    """A bug that the database would refuse, and the database without what refuses it."""

    bug: Bug
    index: str

    def sow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bug.sow(monkeypatch)
        with connection.cursor() as cursor:
            cursor.execute(f"DROP INDEX {self.index}")


_USABLE = "min(draft.nanos, max(link.before + draft.nanos, 0))"
_RECORDED = "entries = {account: -nanos for account, nanos in _entries(of).items()}"
_TODAYS = """cash = _entries(of)[chart.STRIPE_CASH, None]
    entries = {(chart.WALLET, organization_id): cash, (chart.STRIPE_CASH, None): -cash}"""

BUGS: dict[str, Any] = {
    # What was posted before.
    "a_repeat_moves_the_balance_again": statement(
        ledger,
        "post_all",
        ("            _move_wallets(links)", "        _move_wallets(_chained(drafts, heads))"),
    ),
    "a_repeat_with_another_amount_passes": statement(
        ledger, "_refuse_other_content", (" or _entries(posting_id) != dict(draft.entries)", "")
    ),
    # Reversals.
    "a_reversal_computes_todays_numbers": statement(ledger, "reverse", (_RECORDED, _TODAYS)),
    "a_refund_is_undone_twice": WithoutIndex(
        statement(ledger, "reverse", ("not in (None, source_id)", "is ...")), "postings_reversed_once"
    ),
    "what_comes_back_is_always_a_new_lot": statement(
        burning, "_RESTORE", ("SELECT from_posting_id FROM billing_posting WHERE id = %s", "%s")
    ),
    # What burns.
    "what_expires_burns_last": statement(burning, "_BURN", ("NULLS LAST", "NULLS FIRST")),
    "paid_credit_burns_before_promotions": statement(burning, "_BURN", ("lot.rank,", "-lot.rank,")),
    "a_refund_takes_from_any_lot": statement(
        burning, "_BURN", ("(lot.posting_id = debit.first_posting_id) IS TRUE DESC,", "")
    ),
    "credit_forgets_its_end": statement(burning, "give", ("[move.expires_at for move", "[None for move")),
    # Debts.
    "credit_does_not_fill_the_hole": statement(ledger, "_move_lots", (_USABLE, "draft.nanos")),
    "credit_that_ends_a_debt_is_lost": statement(
        ledger, "_move_lots", (_USABLE, "draft.nanos if link.before >= 0 else 0")
    ),
    # Batches.
    "two_debits_of_a_batch_burn_as_one": statement(
        ledger, "_move_lots", ("turn = moved[draft.organization_id]", "turn = 0"),
    ),
    "of_a_batch_the_last_moves_the_balance": statement(
        ledger,
        "_move_wallets",
        ("moved[link.draft.organization_id] +=", "moved[link.draft.organization_id] ="),
    ),
    # The chain.
    "a_batch_hangs_on_one_link": statement(
        ledger, "_chained", ("            end.hash,", "            heads[draft.organization_id].hash,")
    ),
    "the_chain_leaves_out_what_is_reversed": statement(chain, "link", ("            from_posting,\n", "")),
    # Expiry.
    "expiry_takes_what_was_delivered": statement(expiry, "_DUE", ("- coalesce(", "- 0 * coalesce(")),
    "credit_is_taken_back_from_any_lot": statement(
        expiry, "_expire", ("                from_posting=posting_id,\n", "")
    ),
    # Calls.
    "a_free_call_is_no_loss": statement(
        posting,
        "_Share",
        ("(chart.PROVIDER_COST, None): self.base + self.loss", "(chart.PROVIDER_COST, None): self.base"),
        ("(chart.LOSS, None): -self.loss", "(chart.LOSS, None): 0"),
    ),
}  # fmt: skip
