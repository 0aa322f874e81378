"""From the end of a call to rest: spool, then gate and PostgreSQL, then cut.

`record` appends to the spool and returns; only then may the last bytes go to the client. The gate is
told and PostgreSQL is written behind it, each again until it has acknowledged, in any order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError

from aggregator.lib import clock, crash, kv
from aggregator.lib.errors import unavailable
from aggregator.lib.threads import in_thread
from billing import flush, gate
from billing.admission import Admission
from billing.core import budgets, gate_scripts
from billing.core.budgets import Account
from billing.core.generation import Generation
from billing.spool import Dispatch, Pending, Spool

log = logging.getLogger(__name__)

RECEIPT_SECONDS = 600
_BATCH = 1000
_TELL_AGAIN_SECONDS = 0.5
_MOST_BACKOFF_SECONDS = 2.0


@dataclass(slots=True)
class Settlement:
    """One process's settled calls on their way. Belongs to the event loop."""

    spool: Spool
    admission: Admission
    _unflushed: deque[Pending] = field(default_factory=deque)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _failures: int = 0

    def refuse_when_full(self) -> None:
        """PostgreSQL has been away too long: no new calls until the spool drains. Raises Refusal 503."""
        if (
            self.spool.size > settings.SPOOL_MAX_BYTES
            or self.spool.oldest_seconds > settings.SPOOL_MAX_AGE_SECONDS
        ):
            raise unavailable("Billing", retry_after=5)

    def dispatch(self, record: Dispatch) -> None:
        self.spool.dispatch(record)

    def record(self, record: Generation, accounts: tuple[Account, ...]) -> None:
        """Append the settlement; the last bytes may go out when this returns."""
        organization = accounts[0].organization
        crash.point("before_spool")
        try:
            self.spool.settle(record, organization, tuple(account.name for account in accounts))
        finally:
            self.admission.ended(record.public_id)  # on a full disk as well: else it is renewed for ever
        crash.point("after_spool")
        pending = self.spool.pending[record.id]
        self._unflushed.append(pending)
        self._wake.set()
        self._tell(pending)

    def _tell(self, pending: Pending) -> None:
        settled = pending.settlement
        record, organization = settled.generation, settled.organization
        shard = kv.shard(organization)
        epoch = self.admission.epochs[shard]
        if epoch is None:
            return  # the join that is under way publishes a total that covers this one
        keys = [gate.receipt_key(organization, record.public_id)]
        keys += [f"{shard}:w:{account}" for account in settled.totals]
        arguments: list[str | bytes | int] = [
            self.spool.id,
            record.public_id,
            pending.encoded,
            RECEIPT_SECONDS,
        ]
        arguments += settled.totals.values()
        pending.telling = True
        answer = self.admission.pipeline.run(gate_scripts.SETTLE, keys, arguments)
        answer.add_done_callback(
            lambda told: self._told(pending, told, heard=self.admission.epochs[shard] == epoch)
        )

    def _told(self, pending: Pending, told: asyncio.Future[Any], *, heard: bool) -> None:
        """`heard` by the epoch that is joined: one that is new may have heard it before the join."""
        pending.telling = False
        if told.cancelled() or told.exception() is not None or not heard:
            return  # told again by the flush loop: totals may be repeated
        pending.acknowledged = True
        self.spool.cut(pending)

    # ── The loop ─────────────────────────────────────────────────────────────────────────────────

    async def keep(self) -> None:
        """For as long as the process lives: write what was settled, every `SPOOL_FLUSH_MS`."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush_once()
            self._tell_again()
            if self.spool.pending:
                self._wake.set()
            await asyncio.sleep(self._pause())

    async def flush_once(self) -> None:
        """Write one batch. A failure leaves everything for the next time."""
        batch = [self._unflushed[n] for n in range(min(len(self._unflushed), _BATCH))]
        if not batch:
            return
        try:
            await in_thread(flush.deliver, self.spool.id, [pending.settlement for pending in batch])
        except (DatabaseError, OSError) as error:  # or there is no room for what PostgreSQL refuses
            self._failures += 1
            log.error(
                "generations cannot be written", extra={"error": str(error), "waiting": len(self._unflushed)}
            )
            return
        self._failures = 0
        for pending in batch:
            self._unflushed.popleft()
            pending.flushed = True
            self.spool.cut(pending)

    def _tell_again(self) -> None:
        due = time.monotonic() - _TELL_AGAIN_SECONDS
        for pending in list(self.spool.pending.values()):
            if pending.written > due:
                break
            if not pending.acknowledged and not pending.telling:
                self._tell(pending)

    def _pause(self) -> float:
        base = settings.SPOOL_FLUSH_MS / 1000
        return float(min(base * 2 ** min(self._failures, 8), _MOST_BACKOFF_SECONDS))

    async def forget_over(self) -> None:
        """Drop the running totals of budgets whose windows are long over; nobody is admitted there any more.

        The loop goes on between slices: end users may be many.
        """
        before = budgets.long_over(clock.now(), longest_seconds=settings.TOTAL_SECONDS)
        needed = {name for pending in self.spool.pending.values() for name in pending.settlement.totals}
        needed |= {account.name for live in self.admission.live.values() for account in live.accounts}
        names = list(self.spool.totals)
        for start in range(0, len(names), _BATCH):
            for name in names[start : start + _BATCH]:
                if name not in needed and budgets.is_over(name, before):
                    del self.spool.totals[name]
            await asyncio.sleep(0)

    async def drain(self, seconds: float) -> bool:
        """At shutdown: write and tell until nothing waits. False when something was left to replay."""
        until = time.monotonic() + seconds
        while self.spool.pending and time.monotonic() < until:
            await self.flush_once()
            self._tell_again()
            await asyncio.sleep(0.02)
        return self.spool.empty
