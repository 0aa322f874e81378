"""The gate's synchronous side: epochs, loads from PostgreSQL, sweeps, receipts.

Redis holds nothing that cannot be rebuilt. A wallet is usable only in the epoch in which it was loaded;
a load runs under a ticket taken before its snapshot (`snapshots`), so that whatever happens in between
either voids the ticket or is monotone.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.conf import settings
from django.db import connection

from aggregator.lib import clock, kv
from aggregator.lib.errors import unavailable
from billing.core import budgets, gate_scripts
from billing.core.budgets import Account, wallet_account
from billing.snapshots import Snapshot, snapshot

log = logging.getLogger(__name__)

_BEGIN = kv.Script(gate_scripts.BEGIN)
_JOIN = kv.Script(gate_scripts.JOIN)
_JOINED = kv.Script(gate_scripts.JOINED)
_OPEN = kv.Script(gate_scripts.OPEN)
_TICKET = kv.Script(gate_scripts.TICKET)
_LOAD = kv.Script(gate_scripts.LOAD)
_SWEEP = kv.Script(gate_scripts.SWEEP)

_LOAD_TRIES = 8


def wallet_key(account: Account) -> str:
    return f"{kv.shard(account.organization)}:w:{account.name}"


def epoch_key(shard: str) -> str:
    return f"{shard}:e"


def receipt_key(organization: str, generation_id: str) -> str:
    return f"{kv.shard(organization)}:r:{organization}:{generation_id}"


# ── Epochs ───────────────────────────────────────────────────────────────────────────────────────


def begin(shard: str) -> str:
    """The shard's epoch in this life of the server; a new, closed one if there is none yet."""
    return str(_BEGIN.run([epoch_key(shard)], [secrets.token_hex(8)]))


def join(account: Account, epoch: str, *, totals: Mapping[str, int], holds: Mapping[str, int]) -> bool:
    """Publish running totals (by spool) and live holds (by call) of one account in a new epoch."""
    arguments: list[str | int] = [epoch, settings.HOLD_LEASE_SECONDS * 1000, len(totals)]
    for spool, total in totals.items():
        arguments += [spool, total]
    for call, amount in holds.items():
        arguments += [call, amount]
    return bool(_JOIN.run(_keys(account), arguments) == "ok")


def joined(shard: str, epoch: str, spools: Iterable[str]) -> bool:
    return bool(_JOINED.run([epoch_key(shard)], [epoch, *spools]) == "ok")


def open_epoch(shard: str, epoch: str, *, force: bool = False) -> list[str]:
    """Open the epoch if every registered spool has joined; answers the ids of those still missing."""
    return open_for(shard, epoch, registered(), force=force)


def registered() -> list[str]:
    """The ids of all spools that are not closed, those of dead processes too."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id::text FROM spools")
        return [row[0] for row in cursor.fetchall()]


def open_for(shard: str, epoch: str, listed: Sequence[str], *, force: bool = False) -> list[str]:
    """`listed` was read after the epoch began."""
    return list(_OPEN.run([epoch_key(shard)], [epoch, int(force), *listed]))


# ── Loads ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Loaded:
    """The outcome of a load: `ok` with what is spendable, `closed`, `evicted`, `absent` or `late`; of a
    forgetting also `forgotten` or `no`."""

    outcome: str
    spendable: int = 0


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to load: `ok`, or why there is none (`closed`, `evicted`). The next one taken voids it."""

    account: Account
    epoch: str
    nonce: str
    outcome: str
    listed: tuple[str, ...] = ()
    """The spools whose totals the account held when it was taken."""


def load(account: Account) -> Loaded:
    """Rebuild one account of the gate from PostgreSQL, in the present epoch."""
    for attempt in range(_LOAD_TRIES):
        ticket = take_ticket(account)
        if ticket.outcome != "ok":
            return Loaded(ticket.outcome)
        found = snapshot(account, ticket.listed)
        if found is None:
            return Loaded("absent")
        loaded = store(ticket, found)
        if loaded.outcome != "late":
            return loaded
        time.sleep(0.002 * (attempt + 1) * (1 + secrets.randbelow(100) / 100))  # another load took the ticket
    raise unavailable("The gate")


def take_ticket(account: Account) -> Ticket:
    """Before the snapshot is read: what happens in between voids the ticket, or is monotone."""
    epoch = kv.gate().hget(epoch_key(kv.shard(account.organization)), "id")
    if not epoch:
        return Ticket(account, "", "", "closed")
    nonce = secrets.token_hex(8)
    outcome, *listed = _TICKET.run(_keys(account), [str(epoch), nonce])
    return Ticket(account, str(epoch), nonce, outcome, tuple(listed))


def store(ticket: Ticket, found: Snapshot, *, forget: bool = False, over: bool = False) -> Loaded:
    """Load what was read; to `forget` the account, drop it then, unless it has a hold or a total that
    PostgreSQL does not know yet (which is nothing to a budget long `over`). Its mark in the epoch goes with
    it, so that nobody takes it for lost."""
    how = 2 if forget and over else int(forget)
    arguments: list[str | int] = [ticket.nonce, ticket.epoch, found.credit, how, found.version]
    arguments += ["" if found.limit is None else found.limit, len(found.closed), *found.closed]
    for spool, tally in found.tallies.items():
        arguments += [spool, tally]
    outcome, *rest = _LOAD.run(_keys(ticket.account), arguments)
    return Loaded(outcome, int(rest[0]) if rest else 0)


def _keys(account: Account) -> list[str]:
    return [wallet_key(account), epoch_key(kv.shard(account.organization))]


def reload(organization: str) -> None:
    """After money or terms of an organization changed and the change is committed.

    If Redis cannot be reached, or no epoch is open, nothing is lost: the wallet is then loaded anew before
    it is used the next time, since a restarted Redis is a new epoch.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM accounts_organization WHERE public_id = %s", [organization])
        row = cursor.fetchone()
    if row is None:
        raise LookupError(f"no organization {organization}")
    try:
        load(wallet_account(organization, int(row[0])))
    except kv.Unreachable:
        log.warning("gate unreachable while reloading a wallet", extra={"organization": organization})
        raise


# ── Looking and sweeping ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class View:
    """An account as the gate has it, for reconciliation and pages."""

    credit: int
    spent: int
    held: int
    holds: int

    @property
    def spendable(self) -> int:
        return self.credit - self.spent - self.held


def look(account: Account) -> View | None:
    """The account as loaded in the present epoch; None when it is not."""
    shard = kv.shard(account.organization)
    pipe = kv.gate().pipeline(transaction=True)
    pipe.hgetall(wallet_key(account))
    pipe.hget(epoch_key(shard), "id")
    wallet, epoch = pipe.execute()
    if not wallet or wallet.get("e") != epoch or "c" not in wallet:
        return None
    holds = sum(1 for field in wallet if field.startswith("h:"))
    return View(int(wallet["c"]), int(wallet.get("spent", 0)), int(wallet.get("held", 0)), holds)


def sweep(*, idle_seconds: int = 24 * 3600) -> int:
    """Drop the holds of idle wallets whose lease is over, and forget accounts that nothing moves any more;
    answers how many holds."""
    gone = 0
    for shard in kv.shards():
        for key in kv.gate().scan_iter(match=f"{shard}:w:*", count=500):
            dropped, idle_ms = _SWEEP.run([key])
            gone += int(dropped)
            _, _, name = str(key).partition(":w:")
            if int(idle_ms) >= idle_seconds * 1000 or budgets.is_over(name, clock.now()):
                _forget(name)
    return gone


def drop_totals(spool_id: str) -> int:
    """Load again, from PostgreSQL, every account that has a total of this closed spool; answers how many."""
    loaded = 0
    for shard in kv.shards():
        for key in kv.gate().scan_iter(match=f"{shard}:w:*", count=500):
            account = (
                _account(str(key).partition(":w:")[2]) if kv.gate().hexists(key, f"s:{spool_id}") else None
            )
            if account is not None:
                load(account)
                loaded += 1
    return loaded


def reload_named(names: Iterable[str]) -> None:
    """Load accounts again whose charges reached PostgreSQL by another way than through an open spool."""
    for name in names:
        account = _account(name)
        if account is not None:
            load(account)


def _forget(name: str) -> None:
    """If anything moves meanwhile, another sweep will do it."""
    account = _account(name)
    ticket = take_ticket(account) if account else None
    if account and ticket and ticket.outcome == "ok" and (found := snapshot(account, ticket.listed)):
        over = budgets.is_over(name, budgets.long_over(clock.now(), longest_seconds=settings.TOTAL_SECONDS))
        store(ticket, found, forget=True, over=over)


def _account(name: str) -> Account | None:
    """The account of that name; None when PostgreSQL does not know its owner."""
    found = budgets.named(name)
    of_key = found.kind == budgets.KEY
    with connection.cursor() as cursor:
        if of_key:
            cursor.execute(
                "SELECT organization.public_id, organization.id, key.id FROM accounts_key AS key"
                " JOIN accounts_organization AS organization ON organization.id = key.organization_id"
                " WHERE key.public_id = %s",
                [found.owner],
            )
        else:
            cursor.execute(
                "SELECT public_id, id, NULL FROM accounts_organization WHERE public_id = %s", [found.owner]
            )
        row = cursor.fetchone()
    if row is None:
        return None
    organization, organization_id, key_id = row
    return Account(
        name,
        organization,
        organization_id,
        key_id,
        found.window,
        member_id=found.member_id,
        end_user=found.end_user,
    )


def receipt(organization: str, generation_id: str) -> str | None:
    """A settled call's record as JSON, kept for some minutes; never the truth."""
    found = kv.gate().get(receipt_key(organization, generation_id))
    return None if found is None else str(found)
