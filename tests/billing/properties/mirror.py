"""The same beside the real ledger on PostgreSQL: after every step, the two must hold the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from hypothesis.stateful import invariant

from aggregator.lib import clock
from billing import expiry, gate, ledger, posting, retrace
from tests.billing import books as rows
from tests.billing.properties import model
from tests.billing.properties.machine import OWNERS, Ledger
from tests.billing.properties.model import OURS, Name, Posting

MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)

_STATE = """
SELECT
    (SELECT coalesce(json_agg(json_build_array(organization_id, balance_nanos, chain_length,
                                               encode(chain_hash, 'hex')) ORDER BY organization_id), '[]')
     FROM billing_wallet WHERE organization_id = ANY(%(owners)s)),
    (SELECT coalesce(json_agg(json_build_array(posting_id, kind, nanos, remaining_nanos,
            extract(epoch FROM expires_at - %(midnight)s)::bigint / 86400) ORDER BY posting_id), '[]')
     FROM billing_creditlot WHERE organization_id = ANY(%(owners)s)),
    (SELECT coalesce(json_agg(json_build_array(kind, owner, nanos)), '[]')
     FROM (SELECT account.kind, coalesce(account.organization_id, 0) AS owner, sum(entry.nanos) AS nanos
           FROM billing_entry AS entry JOIN billing_account AS account ON account.id = entry.account_id
           WHERE entry.posting_id > %(since)s
           GROUP BY account.kind, account.organization_id) AS sums),
    (SELECT count(*) FROM generations WHERE organization_id = ANY(%(owners)s) AND posting_id IS NULL)
"""


class Mirror(Ledger):
    """Within a transaction that is taken back; `accounts` are the two organizations' keys."""

    accounts: list[Any]
    price: Any

    def __init__(self) -> None:
        super().__init__()
        self.ids = [key.organization_id for key in self.accounts]
        self.posting_ids: dict[Name, int] = {}
        self.links: dict[int, list[list[object]]] = {owner: [] for owner in range(OWNERS)}
        self.real_now, clock.now = clock.now, lambda: MIDNIGHT + timedelta(days=self.books.day)
        self.savepoint = transaction.savepoint()
        with connection.cursor() as cursor:
            cursor.execute("SELECT coalesce(max(id), 0) FROM billing_posting")
            (self.since,) = cursor.fetchone()

    def teardown(self) -> None:
        try:
            assert list(retrace.broken_chains(MIDNIGHT, whole=True)) == []
            assert list(retrace.strange_lots()) == []
        finally:
            clock.now = self.real_now
            transaction.savepoint_rollback(self.savepoint)

    # What the ledger does.

    def really(self, postings: list[Posting]) -> None:
        drafts = [
            ledger.Draft(
                each.kind,
                each.source_id,
                self._entries(each),
                self.ids[each.owner],
                "test",
                f"of day {self.books.day}",
                None if each.ends is None else MIDNIGHT + timedelta(days=each.ends),
                None if each.about is None else self.posting_ids[each.about],
            )
            for each in postings
        ]
        found = self._translated(lambda: ledger.post_all(drafts))
        for each, posting_id in zip(postings, found, strict=True):
            self._made(each.name, posting_id, "test", each.source_id, f"of day {self.books.day}")

    def really_reverse(self, kind: str, source_id: str, name: Name) -> None:
        posting_id = self._translated(
            lambda: ledger.reverse(kind, source_id, of=self.posting_ids[name], source="test")
        )
        self._made((kind, source_id), posting_id, "test", source_id, "")

    def really_deliver(self, call: model.Call) -> None:
        delivered = rows.deliver(
            self.accounts[call.owner],
            self.price,
            status="completed" if call.charge else "failed",
            base_nanos=call.base,
            charge_nanos=call.charge,
            loss_nanos=call.loss,
        )
        call.name = str(delivered.id)

    def really_post_calls(self) -> None:
        posting.post_generations()
        for name in self.books.postings:
            if name[0] == "usage" and name not in self.posting_ids:
                self._made(name, self._id(*name), "generation", name[1], "")

    def really_expire(self) -> None:
        for key in self.accounts:
            gate.reload(key.organization.public_id)  # as after each commit, of which there is none here
        expiry.expire_all()
        for name, each in self.books.postings.items():
            if each.kind == "expiry" and name not in self.posting_ids and each.about is not None:
                source_id = str(self.posting_ids[each.about])
                if each.source_id.endswith(" part"):
                    source_id += f" {clock.now().isoformat()}"
                note = "Promotional credit that was not used in time"
                self._made(name, self._id("expiry", source_id), "posting", source_id, note)

    # What it says afterwards.

    @invariant()
    def the_ledger_holds_what_the_model_holds(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_STATE, {"owners": self.ids, "midnight": MIDNIGHT, "since": self.since})
            wallets, lots, sums, waiting = cursor.fetchone()
        books = self.books
        assert wallets == sorted(
            [
                self.ids[owner],
                books.balance(owner),
                len(books.chains[owner]),
                model.chained(self.links[owner]).hex() or None,
            ]
            for owner in range(OWNERS)
        )
        assert lots == sorted(
            [self.posting_ids[name], lot.sort, lot.nanos, lot.left, lot.posting.ends]
            for name, lot in books.lots.items()
        )
        assert sorted(each for each in sums if each[2]) == sorted(
            [account, 0 if owner == OURS else self.ids[owner], nanos]
            for (account, owner), nanos in books.sums.items()
            if nanos
        )
        assert waiting == sum(not call.posted for call in books.calls)

    def _entries(self, each: Posting) -> dict[tuple[str, int | None], int]:
        return {
            (account, None if owner == OURS else self.ids[owner]): nanos
            for (account, owner), nanos in each.entries.items()
        }

    def _made(self, name: Name, posting_id: int, source: str, source_id: str, note: str) -> None:
        """Remember what a posting is called here, and what its link of the chain says."""
        each = self.books.postings.get(name)
        if each is None:  # the model refused it, and will be asked about it
            return
        assert self.posting_ids.setdefault(name, posting_id) == posting_id
        links = self.links[each.owner]
        if len(links) == len(self.books.chains[each.owner]):
            return
        ends = None if each.ends is None else MIDNIGHT + timedelta(days=each.ends)
        links.append(
            [
                len(links) + 1,
                each.kind,
                source,
                source_id,
                note,
                _spelled(MIDNIGHT + timedelta(days=self.books.day)),
                "" if ends is None else _spelled(ends),
                None if each.about is None else self.posting_ids[each.about],
                sorted(
                    [account, owner or 0, nanos] for (account, owner), nanos in self._entries(each).items()
                ),
            ]
        )

    def _translated(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except ledger.OtherContent as error:
            raise model.OtherContent from error
        except ledger.AlreadyReversed as error:
            raise model.AlreadyReversed from error

    def _id(self, kind: str, source_id: str) -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT id FROM billing_posting WHERE kind = %s AND source_id = %s", [kind, source_id]
            )
            found = cursor.fetchone()
        assert found is not None, f"there is no {kind} posting {source_id}"
        return int(found[0])


def _spelled(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%S}.000000+00:00"
