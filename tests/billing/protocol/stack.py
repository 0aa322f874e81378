"""The mirror with PostgreSQL and spool files too: the whole path of money, step by step with the model."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

from django.db import DatabaseError, connection
from django.db.models import F

from accounts.models import Key
from aggregator.lib import ids
from billing import flush, gate, ledger, posting, snapshots, spool
from billing.core import chart, generation
from billing.core.generation import Generation
from billing.models import Budget
from billing.spool import Dispatch, Orphan, Pending, Settlement, Spool
from tests.billing.protocol.mirror import END_USER, GateMirror
from tests.billing.protocol.state import CLOSED, OPEN, TOLD, Model, State, Step


class StackMirror(GateMirror):
    def __init__(self, principal: Any, terms: int, folder: Path) -> None:
        super().__init__(principal, terms)
        self.folder = folder

    def start(self, m: Model, d: State) -> None:
        self.files: dict[int, Spool] = {}
        self.orphans: dict[str, Orphan] = {}
        self.pending: dict[int, Pending] = {}
        self.settled: dict[int, Settlement] = {}
        super().start(m, d)

    def open_spool(self, number: int) -> None:
        self.files[number] = own = Spool.create(self.folder)
        self.spools[number] = own.id
        flush.register(own.id)

    # ── Spools ───────────────────────────────────────────────────────────────────────────────────

    def do_append(self, d: State, step: Step, number: int, call: int, cost: int) -> None:
        record = Generation(
            id=self.calls[call],
            organization_id=self.principal.organization_id,
            key_id=self.principal.key_id,
            status=generation.COMPLETED if cost else generation.FAILED,
            charge_nanos=cost,
            base_nanos=cost,
            end_user=END_USER,
            ended_ms=int(generation.admitted_at(self.calls[call]).timestamp() * 1000),
        )
        own = self.files[number]
        own.dispatch(Dispatch(record.id, record.organization_id, record.key_id, ""))
        names = tuple(account.name for account in self.accounts)
        self.settled[call] = own.settle(record, self.principal.organization, names)
        self.pending[call] = own.pending[record.id]
        total = self.m.total(step.state, number)
        assert self.settled[call].totals == dict.fromkeys(names, total)

    def do_settle(self, d: State, step: Step, number: int, total: int, call: int) -> None:
        super().do_settle(d, step, number, total, call)
        if step.state["stage"][call] == TOLD and number in self.files:
            self.pending[call].acknowledged = True
            self.files[number].cut(self.pending[call])

    def do_cut(self, d: State, step: Step, number: int) -> None:
        assert number not in self.files or not self.files[number].pending

    def do_kill(self, d: State, step: Step, worker: int, number: int) -> None:
        os.close(self.files.pop(number).lock)

    def do_stop(self, d: State, step: Step, worker: int, number: int) -> None:
        own = self.files.pop(number)
        assert own.empty
        flush.close(own.id)
        own.close()

    def do_close(self, d: State, step: Step, number: int) -> None:
        orphan = self.orphan(number)
        flush.close(orphan.id)
        orphan.remove()

    def orphan(self, number: int) -> Orphan:
        self.orphans |= {found.id: found for found in spool.orphans(self.folder)}
        return self.orphans[self.spools[number]]

    # ── PostgreSQL ───────────────────────────────────────────────────────────────────────────────

    def do_flush(self, d: State, step: Step, number: int, calls: Any, total: int) -> None:
        if number not in self.files and d["registered"][number] == OPEN:
            flush.recover(self.orphan(number))
            return
        try:
            flush.write(self.spools[number], [self.settled[call] for call in calls])
        except DatabaseError:
            assert d["registered"][number] == CLOSED, "only a late flush into a closed spool fails"
            return
        for call in calls if number in self.files else ():
            self.pending[call].flushed = True
            self.files[number].cut(self.pending[call])

    def do_post(self, d: State, step: Step) -> None:
        posting.post_generations()

    def do_top_up(self, d: State, step: Step, nanos: int) -> None:
        owner = self.principal.organization_id
        entries = {(chart.WALLET, owner): nanos, (chart.PROMOTION, None): -nanos}
        ledger.post("grant", str(ids.uuid7()), entries=entries, organization_id=owner, source="operator")
        key = Key.unscoped.get(pk=self.principal.key_id)
        Key.unscoped.filter(pk=key.pk).update(limit_nanos=key.limit_nanos + nanos)
        Budget.objects.of(owner).update(limit_nanos=F("limit_nanos") + nanos)

    def do_list(self, d: State, step: Step, listed: int) -> None:
        assert set(gate.registered()) == set(self.names(listed))

    def snapshots(self, listed: Any, modelled: Any) -> list[snapshots.Snapshot]:
        """What PostgreSQL says of each account, which must be what the model read."""
        wanted = super().snapshots(listed, modelled)
        found = [snapshots.snapshot(account, listed) for account in self.accounts]
        for real, model in zip(found, wanted, strict=True):
            assert real is not None and real.credit == model.credit, (real, model)
            assert set(real.closed) == set(model.closed), (real, model)
            tallies = {name: nanos for name, nanos in real.tallies.items() if nanos}
            assert tallies == {name: nanos for name, nanos in model.tallies.items() if nanos}, (real, model)
        return [real for real in found if real is not None]

    # ── Looking ──────────────────────────────────────────────────────────────────────────────────

    def probe(self, d: State, rng: random.Random) -> None:
        super().probe(d, rng)
        known = [name for number, name in enumerate(self.spools) if d["registered"][number]]
        self.snapshots(known, self.m.snapshot(d))

    def compare(self, d: State) -> None:
        super().compare(d)
        self._compare_spools(d)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT id, charge_nanos, posting_id FROM generations"
                " WHERE id = ANY(%s) AND status <> 'void'",
                [self.calls],
            )
            rows = {row[0]: row[1:] for row in cursor.fetchall()}
            cursor.execute("SELECT account, spool::text, nanos FROM tallies")
            tallies = {(account, name): nanos for account, name, nanos in cursor.fetchall() if nanos}
            cursor.execute(
                "SELECT balance_nanos + credit_limit_nanos FROM billing_wallet WHERE organization_id = %s",
                [self.principal.organization_id],
            )
            (funds,) = cursor.fetchone()
        for call, name in enumerate(self.calls):
            charge, posting_id = rows.get(name, (0, None))
            assert (name in rows) == bool(d["generations"][call]), call
            assert charge == d["cost"][call] * d["generations"][call], call
            assert (posting_id is not None) == bool(d["posted"][call]), call
        assert tallies == {
            (account.name, self.spools[number]): d["tallies"][number]
            for account in self.accounts
            for number in self.m.spools
            if d["registered"][number] == OPEN and d["tallies"][number]
        }
        assert funds == d["credits"] - sum(d["cost"][call] * d["posted"][call] for call in self.m.calls)

    def _compare_spools(self, d: State) -> None:
        """A record is cut when PostgreSQL has it and the gate has acknowledged it, not before."""
        for number, own in self.files.items():
            for call in self.m.uncut(d, number):
                if self.calls[call] not in own.pending:
                    assert d["generations"][call] and d["stage"][call] == TOLD, f"call {call} was cut"

    def end(self) -> None:
        for own in self.files.values():
            os.close(own.lock)
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM spools")
