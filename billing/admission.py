"""The gate's asynchronous side: admit, extend, renew, and stay joined to the present epoch.

One round trip admits a call: key state, rate limit, every budget and the wallet, all or nothing. An
answer counts only if the process is still in the epoch in which it asked; an unknown outcome means
that the call is not started, and its hold runs out with its lease.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from django.conf import settings
from django.db import Error as DatabaseError

from accounts.core.principal import Principal
from aggregator.lib import crash, kv
from aggregator.lib.deadlines import Deadlines
from aggregator.lib.errors import Refusal, unavailable
from aggregator.lib.threads import in_thread
from billing import gate, wallets
from billing.core import gate_scripts
from billing.core.budgets import Account
from billing.spool import Spool

log = logging.getLogger(__name__)

_TRIES = 6
_KEEP_SECONDS = 0.5
_LOAD_SECONDS = 5.0
_RATE_WINDOW_US = 60_000_000


class Answer(msgspec.Struct, frozen=True):
    """What the gate said: `ok`, `key` or `terms` (ask PostgreSQL again), `rate`, `no`, or `unknown`.

    `value` is the requests left of the rate limit (-1: none set), the milliseconds to wait, or what is
    spendable in nanos; `account` is the one that covers least of the amount, and `limit` its limit in
    nanos if it is a budget.
    """

    outcome: str
    value: int = 0
    account: Account | None = None
    limit: int | None = None


@dataclass(slots=True)
class Live:
    """A call under way: what it may spend, and when its lease was last renewed (monotonic)."""

    accounts: tuple[Account, ...]
    amount: int
    renewed: float


@dataclass(slots=True)
class Admission:
    spool: Spool
    orphan_totals: dict[str, dict[Account, int]] = field(default_factory=dict)
    """Running totals of dead processes' spools that this process took over, by spool."""
    live: dict[str, Live] = field(default_factory=dict)
    epochs: dict[str, str | None] = field(default_factory=dict)
    """The epoch joined, by shard; None while it is being joined."""
    pipeline: kv.TickPipeline = field(init=False)
    _patience: Deadlines = field(init=False)
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while every shard's epoch is joined and open."""
    _client: kv.AsyncClient = field(init=False)
    _shut_since_seconds: dict[str, float] = field(default_factory=dict)
    """Epochs that were joined and found not open, and since when (monotonic)."""
    _poke: asyncio.Event = field(default_factory=asyncio.Event)
    _loading: dict[str, asyncio.Task[gate.Loaded]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._client = kv.async_gate(redis_connect_func=self._greet)
        self.pipeline = kv.TickPipeline(self._client)
        self._patience = Deadlines(settings.GATE_TIMEOUT_MS / 4000)
        self.epochs = dict.fromkeys(kv.shards())

    async def admit(
        self,
        principal: Principal,
        accounts: tuple[Account, ...],
        *,
        call: str,
        amount: int,
        terms_version: int,
    ) -> Answer:
        """Hold `amount` on every account for `call`. Raises Refusal 503 when the gate cannot say."""
        shard = kv.shard(principal.organization)
        keys = [f"{shard}:k:{principal.key}", f"{shard}:g:{principal.key}", *map(gate.wallet_key, accounts)]
        per_minute = principal.requests_per_minute or 0
        interval = _RATE_WINDOW_US // per_minute if per_minute else 0
        versions = [account.version for account in accounts[1:]]
        tail: list[str | int] = [principal.key_version, terms_version, interval, per_minute, *versions]
        for _ in range(_TRIES):
            epoch = await self._epoch(shard)
            arguments = [epoch, call, amount, settings.HOLD_LEASE_SECONDS * 1000, *tail]
            try:
                reply = await self.ask(gate_scripts.ADMIT, keys, arguments)
            except (Refusal, asyncio.CancelledError):
                self._release(keys[2:], call)
                raise
            if reply[0] == "missing":
                await self._load_all(_of(accounts, reply))
            elif reply[0] == "no":
                return _no(accounts, reply)
            elif reply[0] != "ok":
                return Answer(reply[0], int(reply[1] or 0))
            elif self.epochs[shard] == epoch:
                self.live[call] = Live(accounts, amount, time.monotonic())
                return Answer("ok", int(reply[1]))
        raise unavailable("The gate")

    async def extend(self, call: str, amount: int, *, loads: bool = True) -> Answer:
        """Grow the hold of a live call to `amount`, before spending more; holds never shrink.

        `unknown` when the gate cannot say: the call goes on within what it holds. `account` is then the one
        that is not loaded, if that is why; without `loads` nothing is.
        """
        live = self.live.get(call)
        if live is None:
            return Answer("unknown")
        try:
            return await self._extend(live, call, amount, loads=loads)
        except Refusal:
            return Answer("unknown")
        finally:
            if call not in self.live:  # it ended meanwhile: what came after its settlement holds nothing
                self._release([gate.wallet_key(account) for account in live.accounts], call)

    async def _extend(self, live: Live, call: str, amount: int, *, loads: bool) -> Answer:
        shard = kv.shard(live.accounts[0].organization)
        keys = [gate.wallet_key(account) for account in live.accounts]
        for _ in range(_TRIES):
            epoch = await self._epoch(shard)
            arguments = (epoch, call, amount, settings.HOLD_LEASE_SECONDS * 1000)
            reply = await self.ask(gate_scripts.COVER, keys, arguments)
            if reply[0] == "missing":
                absent = _of(live.accounts, reply)
                if not loads or not await self._are_loaded(absent):
                    return Answer("unknown", account=absent[0])
            elif reply[0] == "no":
                return _no(live.accounts, reply)
            elif self.epochs[shard] == epoch:
                live.amount, live.renewed = max(live.amount, amount), time.monotonic()
                return Answer("ok")
        raise unavailable("The gate")

    def _release(self, wallets_held: Sequence[str], call: str) -> None:
        """The call is not started: if it holds anything, that need not wait for the end of its lease."""
        released = self.pipeline.run(gate_scripts.RELEASE, wallets_held, [call])
        released.add_done_callback(lambda told: told.cancelled() or told.exception())

    def ended(self, call: str) -> None:
        self.live.pop(call, None)

    # ── Keeping ──────────────────────────────────────────────────────────────────────────────────

    async def keep(self) -> None:
        """For as long as the process lives: join each new epoch, open it, renew leases."""
        while True:
            self._poke.clear()  # before, not after: what is seen meanwhile must be looked at again
            try:
                await self._keep_once()
            except (kv.Failed, DatabaseError, TimeoutError) as error:
                self.joined.clear()
                log.warning("the gate cannot be joined", extra={"error": str(error)})
            try:
                async with asyncio.timeout(_KEEP_SECONDS):
                    await self._poke.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(0.02)  # a poke is a fault just seen: do not spin on it

    async def _keep_once(self) -> None:
        shut = []
        for shard in kv.shards():  # all are joined before any is waited for: two never wait for each other
            seen = await self._seen(shard)
            if self.epochs[shard] is None or seen[0] != self.epochs[shard]:
                await self._join(shard)
                shut.append(shard)
            elif seen[1] is None:
                shut.append(shard)
        opened = [await self._open(shard) for shard in shut]
        if not all(opened) or None in self.epochs.values():
            self.joined.clear()
            self._poke.set()
            return
        self._shut_since_seconds.clear()
        self.joined.set()
        await self._renew()

    async def _seen(self, shard: str) -> Sequence[Any]:
        """The present epoch's id, and whether it is open."""
        async with asyncio.timeout(_LOAD_SECONDS):
            return list(await self._client.hmget(gate.epoch_key(shard), "id", "open"))

    async def _join(self, shard: str) -> None:
        """While it lasts no settle is sent. What is settled meanwhile is told when it is over."""
        self.epochs[shard] = None
        self.joined.clear()
        epoch = await in_thread(gate.begin, shard)
        totals, holds = self._of_shard(shard)
        spools = [self.spool.id, *self.orphan_totals]
        for account in totals.keys() | holds.keys():
            if not await in_thread(
                gate.join, account, epoch, totals=totals.get(account, {}), holds=holds.get(account, {})
            ):
                self._poke.set()
                return
        if not await in_thread(gate.joined, shard, epoch, spools):
            self._poke.set()
            return
        self.epochs[shard] = epoch

    async def _open(self, shard: str) -> bool:
        """Is the epoch open? Anyone may open one; after the grace, without the spools still missing."""
        epoch, (found, is_open) = self.epochs[shard], await self._seen(shard)
        if epoch is None or found != epoch:
            return False
        if is_open:
            return True
        since = self._shut_since_seconds.setdefault(epoch, time.monotonic())
        force = time.monotonic() - since >= settings.GATE_GRACE_SECONDS
        crash.point("before_opening")
        missing = await in_thread(gate.open_epoch, shard, epoch, force=force)
        if missing and force and missing != ["stale"]:
            log.error("the epoch was opened by grace", extra={"shard": shard, "absent": missing})
            return True
        if missing:
            await asyncio.sleep(0.1)
        return not missing

    def _of_shard(self, shard: str) -> tuple[dict[Account, dict[str, int]], dict[Account, dict[str, int]]]:
        """What this process has to tell a new epoch: totals by spool, and holds by call, of each account."""
        totals: dict[Account, dict[str, int]] = {}
        holds: dict[Account, dict[str, int]] = {}
        for spool, by_account in self.orphan_totals.items():
            for account, total in by_account.items():
                if kv.shard(account.organization) == shard:
                    totals.setdefault(account, {})[spool] = total
        for pending in self.spool.pending.values():
            organization = pending.settlement.organization
            if kv.shard(organization) == shard:
                for name in pending.settlement.totals:
                    account = Account(name, organization, pending.settlement.generation.organization_id)
                    totals.setdefault(account, {})[self.spool.id] = self.spool.totals[name]
        for call, live in self.live.items():
            for account in live.accounts:
                if kv.shard(account.organization) == shard:
                    bare = Account(account.name, account.organization, account.organization_id)
                    holds.setdefault(bare, {})[call] = live.amount
        return totals, holds

    async def _renew(self) -> None:
        due = time.monotonic() - settings.HOLD_LEASE_SECONDS / 3
        loads = True
        for call, live in list(self.live.items()):
            if live.renewed <= due and call in self.live:
                answer = await self.extend(call, live.amount, loads=loads)
                if answer.outcome == "unknown" and answer.account is None:
                    return  # the rest when the gate is back
                if answer.outcome == "unknown":
                    loads = False  # PostgreSQL is away: whose wallets are loaded need not wait for it
                elif answer.outcome != "ok":
                    log.error("a running call lost its hold", extra={"call": call})

    # ── Asking ───────────────────────────────────────────────────────────────────────────────────

    async def _epoch(self, shard: str) -> str:
        """The epoch joined; waits up to a second for one."""
        if self.epochs[shard] is None or not self.joined.is_set():
            self._poke.set()
            try:
                async with asyncio.timeout(1):
                    await self.joined.wait()
            except TimeoutError as error:
                raise unavailable("The gate") from error
        epoch = self.epochs[shard]
        if epoch is None:
            raise unavailable("The gate")
        return epoch

    async def ask(self, source: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """A script's answer. Raises Refusal 503 when the gate does not give one in time."""
        answer = self.pipeline.run(source, keys, arguments)
        expire = functools.partial(_expire, answer)
        self._patience.add(expire, settings.GATE_TIMEOUT_MS / 1000)
        try:
            return await answer
        except (TimeoutError, kv.Failed) as error:
            self._poke.set()
            raise unavailable("The gate") from error
        finally:
            self._patience.remove(expire)

    async def _are_loaded(self, accounts: Sequence[Account]) -> bool:
        try:
            await self._load_all(accounts)
        except Refusal:
            return False
        return True

    async def _load_all(self, accounts: Sequence[Account]) -> None:
        """A new day may begin several windows at once: they are loaded beside each other."""
        if len(accounts) == 1:
            await self._load(accounts[0])
            return
        outcomes = await asyncio.gather(*map(self._load, accounts), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _load(self, account: Account) -> None:
        """Load an account, once however many calls wait for it."""
        task = self._loading.get(account.name)
        if task is None:
            task = asyncio.get_running_loop().create_task(in_thread(_load_or_open, account))
            self._loading[account.name] = task
            task.add_done_callback(lambda _: self._loading.pop(account.name, None))
        try:
            async with asyncio.timeout(_LOAD_SECONDS):
                loaded = await asyncio.shield(task)
        except (kv.Failed, DatabaseError, Refusal, TimeoutError) as error:
            raise unavailable("The gate") from error
        if loaded.outcome != "ok":
            shard = kv.shard(account.organization)
            log.info("the gate's epoch is over", extra={"shard": shard, "outcome": loaded.outcome})
            if loaded.outcome == "evicted":
                self.epochs[shard] = None
            self.joined.clear()
            self._poke.set()

    async def _greet(self, connection: Any) -> None:
        """On each new connection, before it carries a command: a restarted server is a new epoch."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        reply = await connection.read_response()
        text = reply.decode() if isinstance(reply, bytes) else str(reply)
        found = next((line[7:].strip() for line in text.splitlines() if line.startswith("run_id:")), None)
        if any(epoch and not epoch.startswith(f"{found}:") for epoch in self.epochs.values()):
            self.epochs = dict.fromkeys(self.epochs)
            self.joined.clear()
            self._poke.set()

    async def close(self) -> None:
        await self.pipeline.close()
        await self._client.aclose()


def _expire(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


def _of(accounts: Sequence[Account], reply: Sequence[Any]) -> list[Account]:
    """The accounts whose places a `missing` names."""
    return [accounts[int(place) - 1] for place in reply[1:]]


def _no(accounts: Sequence[Account], reply: Sequence[Any]) -> Answer:
    """`no`, the place of the account, what is spendable there, and its limit if it is a budget."""
    limit = int(reply[3]) if len(reply) > 3 else None
    return Answer("no", int(reply[2]), accounts[int(reply[1]) - 1], limit)


def _load_or_open(account: Account) -> gate.Loaded:
    """A wallet is opened when it is first needed."""
    loaded = gate.load(account)
    if loaded.outcome == "absent":
        wallets.open_wallet(account.organization_id)
        loaded = gate.load(account)
    return loaded
