"""Every step that the model takes at the gate, taken by the gate's own scripts on a real server.

The wallet and a budget of each kind, all of the same size, live through the same history, so every one of
them must always be what the model says. After each step all that the gate holds is compared.
"""

from __future__ import annotations

import random
import uuid
from typing import Any

from aggregator.lib import ids, kv
from billing import gate
from billing.core import gate_scripts
from billing.core.budgets import Account, accounts_of
from billing.core.generation import public_id
from billing.snapshots import Snapshot
from tests.billing.protocol import scripts
from tests.billing.protocol.state import Model, State, Step

LEASE_MS = 10**9
BEGINNING_OF_TIME = "1"
END_USER = "total:a user: of {theirs}"
"""A name as odd as it may be."""


class GateMirror:
    """`principal`: of a key whose every budget, in a window that never ends, is the organization's credit."""

    def __init__(self, principal: Any, terms: int) -> None:
        self.accounts: tuple[Account, ...] = accounts_of(principal, ids.uuid7_time(ids.uuid7()), END_USER)
        assert {account.kind for account in self.accounts} == {"org", "key", "budget", "member", "user"}
        self.shard = kv.shard(principal.organization)
        self.wallets = [gate.wallet_key(account) for account in self.accounts]
        self.epoch_key = gate.epoch_key(self.shard)
        self.principal, self.terms = principal, terms
        self.versions = [terms, *(account.version for account in self.accounts[1:])]
        self.run = {
            name: kv.Script(getattr(gate_scripts, name))
            for name in ("ADMIT", "COVER", "RESERVE", "SETTLE", "SWEEP")
        }

    def start(self, m: Model, d: State) -> None:
        self.m = m
        kv.gate().flushall()
        self.calls = [ids.uuid7() for _ in m.calls]
        self.spools = [str(ids.uuid7()) for _ in m.spools]
        self.old_tickets: list[list[gate.Ticket]] = []
        self.tickets: list[gate.Ticket] = []
        self.read: list[Snapshot] = []
        self.file: dict[str, bytes] = {}
        for spool in m.workers:
            self.open_spool(spool)
        self.epochs = {0: None, 1: gate.begin(self.shard)}
        assert gate.joined(self.shard, self.epochs[1], self.spools[: len(m.workers)])
        assert gate.open_for(self.shard, self.epochs[1], self.spools[: len(m.workers)]) == []
        self.do_ticket(d, Step(("ticket", 1), d, 0), 1)
        self.read = self.snapshots((), m.snapshot(d))
        self.do_load(d, Step((), d, "ok"), 1, 0, None, False)
        self.compare(d)

    def follow(self, d: State, step: Step) -> None:
        """Take the step from `d`; the gate must answer as the model did, and be what the model is."""
        verb, *subjects = step.did
        do = getattr(self, f"do_{verb.replace(' ', '_')}", None)
        if do is not None:
            do(d, step, *subjects)
        self.compare(step.state)

    # ── Steps ────────────────────────────────────────────────────────────────────────────────────

    def do_admit(self, d: State, step: Step, epoch: int, call: int, amount: int) -> None:
        name = public_id(self.calls[call])
        reserved = None
        if call % 2 and not d["holds"][call]:  # a reservation is a hold like a call's
            reserved = self.reserve(epoch, name, amount)
        answer = self.admit(epoch, name, amount)
        assert step.answer in (None, answer) and reserved in (None, answer), (step.did, reserved, answer)

    def do_cover(self, d: State, step: Step, epoch: int, call: int, amount: int) -> None:
        answer = self.cover(epoch, public_id(self.calls[call]), amount)
        assert step.answer in (None, answer), (step.did, answer)

    def admit(self, epoch: int, call: str, amount: int) -> str:
        kv.gate().set(f"{self.shard}:k:key", self.principal.key_version)
        keys = [f"{self.shard}:k:key", f"{self.shard}:g:key", *self.wallets]
        versions = [self.principal.key_version, self.terms, 0, 0, *self.versions[1:]]
        return str(self.run["ADMIT"].run(keys, [self.epochs[epoch], call, amount, LEASE_MS, *versions])[0])

    def reserve(self, epoch: int, call: str, amount: int) -> str:
        arguments = [self.epochs[epoch], call, amount, LEASE_MS, 0, 0, self.terms]
        return str(self.run["RESERVE"].run(self.wallets[:1], arguments)[0])

    def cover(self, epoch: int, call: str, amount: int) -> str:
        return str(self.run["COVER"].run(self.wallets, [self.epochs[epoch], call, amount, LEASE_MS])[0])

    def do_settle(self, d: State, step: Step, spool: int, total: int, call: int) -> None:
        name = public_id(self.calls[call])
        receipt = gate.receipt_key(self.principal.organization, name)
        totals = [total] * len(self.wallets)
        self.run["SETTLE"].run([receipt, *self.wallets], [self.spools[spool], name, "", 60, *totals])

    def do_sweep(self, d: State, step: Step, call: int) -> None:
        """Its lease is over."""
        for wallet in self.wallets:
            field = f"h:{public_id(self.calls[call])}"
            lapsed = f"{d['holds'][call]} {BEGINNING_OF_TIME}"
            kv.gate().hset(wallet, mapping={field: lapsed, "next": BEGINNING_OF_TIME})
            assert self.run["SWEEP"].run([wallet])[0] == 1

    def do_begin(self, d: State, step: Step) -> None:
        self.epochs[step.answer] = gate.begin(self.shard)
        assert gate.begin(self.shard) == self.epochs[step.answer]

    def do_join(self, d: State, step: Step, epoch: int, spools: int, *told: Any) -> None:
        totals, holds = told
        published = {self.spools[spool]: total for spool, total in totals}
        held = {public_id(self.calls[call]): amount for call, amount in holds}
        name, ok = str(self.epochs[epoch]), True
        if totals or holds:
            ok = all(gate.join(account, name, totals=published, holds=held) for account in self.accounts)
        if ok:
            ok = gate.joined(self.shard, name, self.names(spools))
        assert step.answer is None or ok == (step.answer == "ok"), (step.did, ok)

    def do_open(self, d: State, step: Step, epoch: int, listed: int, force: bool) -> None:
        missing = gate.open_for(self.shard, str(self.epochs[epoch]), self.names(listed), force=force)
        if step.answer == "stale":
            assert missing == ["stale"]
        else:
            assert bool(missing) == (step.answer == "waits" or force), (step.did, missing)

    def do_ticket(self, d: State, step: Step, epoch: int) -> None:
        tickets = [gate.take_ticket(account) for account in self.accounts]
        if step.answer is None:
            first, *others = [ticket.outcome for ticket in tickets]
            assert first == "evicted" and set(others) == {"closed"}, tickets
            return
        for ticket in tickets:
            assert ticket.outcome == "ok" and set(ticket.listed) == set(self.names(step.answer)), ticket
        if self.tickets:
            self.old_tickets = [*self.old_tickets[-1:], self.tickets]
        self.tickets = tickets

    def do_snapshot(self, d: State, step: Step, listed: int) -> None:
        self.read = self.snapshots(self.names(listed), step.answer)

    def snapshots(self, listed: Any, modelled: Any) -> list[Snapshot]:
        """What the model read, for each account."""
        credit, tallies, closed, _ = modelled
        known = {self.spools[s]: tally for s, tally in enumerate(tallies) if tally is not None}
        gone = tuple(name for name in self.names(closed) if name in listed)
        return [Snapshot(credit, version, known, gone) for version in self.versions]

    def do_load(self, d: State, step: Step, *load: Any) -> None:
        forget = load[-1]
        for old in self.old_tickets:
            for ticket, found in zip(old, self.read, strict=True):
                assert gate.store(ticket, found, forget=forget).outcome == "late"
        for ticket, found in zip(self.tickets, self.read, strict=True):
            loaded = gate.store(ticket, found, forget=forget)
            assert loaded.outcome == step.answer, (step.did, loaded)
            assert step.answer != "ok" or loaded.spendable == scripts.spendable(step.state)

    def do_restart_empty(self, d: State, step: Step) -> None:
        kv.gate().flushall()

    def do_lose_the_wallet(self, d: State, step: Step) -> None:
        kv.gate().delete(*self.wallets)

    def do_lose_the_epoch(self, d: State, step: Step) -> None:
        kv.gate().delete(self.epoch_key)

    def do_write_a_file(self, d: State, step: Step) -> None:
        self.file = {key: kv.gate().hgetall(key) for key in (*self.wallets, self.epoch_key)}

    def do_restart_with_the_old_file(self, d: State, step: Step) -> None:
        """Another life of the server: what the file says of the epoch is of another run."""
        kv.gate().flushall()
        for key, fields in self.file.items():
            if key == self.epoch_key and "id" in fields:
                fields = fields | {"id": "0123abc:" + fields["id"].partition(":")[2]}
            if fields:
                kv.gate().hset(key, mapping=fields)
        if d["loads"]:  # in the model a ticket survives this: the worst case, in which the file has it
            for wallet, ticket in zip(self.wallets, self.tickets, strict=True):
                kv.gate().hset(wallet, "t", ticket.nonce)

    def do_start_worker(self, d: State, step: Step, worker: int, spool: int) -> None:
        self.open_spool(spool)

    def open_spool(self, spool: int) -> None:
        """Nothing but a name at the gate."""

    def names(self, spools: int) -> list[str]:
        return [name for spool, name in enumerate(self.spools) if spools >> spool & 1]

    # ── Looking ──────────────────────────────────────────────────────────────────────────────────

    def compare(self, d: State) -> None:
        epoch = kv.gate().hgetall(self.epoch_key)
        known = {name: number for number, name in self.epochs.items()}
        if epoch.get("id") not in known:  # of another life of the server: the next epoch removes it
            epoch = dict.fromkeys(self.wallets if d["marked"] else ())
        for wallet in self.wallets:
            found = self._found(kv.gate().hgetall(wallet), known) | {
                "epoch": known[epoch.get("id")],
                "open": int("open" in epoch),
                "joined": sum(1 << n for n, name in enumerate(self.spools) if f"j:{name}" in epoch),
                "marked": int(wallet in epoch),
            }
            wrong = {name: (found[name], d[name]) for name in found if found[name] != d[name]}
            assert not wrong, f"{wallet}, found and modelled: {wrong}"

    def _found(self, wallet: dict[str, str], known: dict[Any, int]) -> dict[str, Any]:
        totals = tuple(int(wallet[f"s:{s}"]) if f"s:{s}" in wallet else None for s in self.spools)
        holds = tuple(int(wallet.get(f"h:{public_id(c)}", "0").split()[0]) for c in self.calls)
        assert int(wallet.get("spent", 0)) == sum(total or 0 for total in totals), wallet
        assert int(wallet.get("held", 0)) == sum(holds), wallet
        return {
            "credit": int(wallet["c"]) if "c" in wallet else None,
            "loaded_in": known[wallet.get("e")],
            "written_in": known[wallet.get("in")],
            "totals": totals,
            "holds": holds,
        }

    def probe(self, d: State, rng: random.Random) -> None:
        """What must be refused is refused, and what must not change anything does not."""
        epoch, ask = rng.randrange(1, d["next_epoch"]), rng.choice((self.admit, self.cover))
        if d["credit"] is None or d["loaded_in"] != epoch:
            assert ask(epoch, str(uuid.uuid4()), 1) == "missing"
        else:
            assert ask(epoch, str(uuid.uuid4()), max(1, scripts.spendable(d) + 1)) == "no"
            for call in self.m.calls:
                if d["holds"][call] > 1:
                    assert ask(epoch, public_id(self.calls[call]), 1) == "ok"
        if d["open"] and d["loaded_in"] == d["written_in"] == d["epoch"] and d["marked"]:
            much = {str(uuid.uuid4()): max(1, scripts.spendable(d) + 1)}
            name = str(self.epochs[d["epoch"]])
            assert all(gate.join(account, name, totals={}, holds=much) for account in self.accounts)
        if d["epoch"] and not d["open"]:
            assert {gate.take_ticket(account).outcome for account in self.accounts} == {"closed"}
        if d["epoch"] and gate.begin(self.shard) != self.epochs[d["epoch"]]:
            raise AssertionError("an epoch began twice")
        self.compare(d)
