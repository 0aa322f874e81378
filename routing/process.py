"""What a gateway process opens when it starts and closes when it ends: one life, one spool.

start   take over dead processes' spools · register our own · join the gate's epoch · load the listing
stop    write and tell what is settled · close the spool
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError

from aggregator.lib import clock, crash, keepers, kv
from aggregator.lib.threads import in_thread
from billing import flush, gate, spool
from billing.admission import Admission
from billing.core.budgets import Account
from billing.settlement import Settlement
from billing.spool import Orphan, Spool
from routing import snapshot
from routing.attempts import Attempts
from routing.callers import Callers
from routing.core import tokencount
from routing.core.live import Live
from routing.endings import Endings
from routing.exchange import Exchange
from routing.gateway import Gateway
from routing.upstream import Upstream

log = logging.getLogger(__name__)

_REFRESH_SECONDS = 1.0
_JOIN_SECONDS = 60.0
_SEEN_SECONDS = 30.0
_DRAIN_SECONDS = 10.0
_SMALL_SECONDS = 300.0


@dataclass(slots=True)
class Process:
    gateway: Gateway
    admission: Admission
    settlement: Settlement
    upstream: Upstream
    exchange: Exchange
    ready: bool = True
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def start(cls) -> Process:
        """Raises when PostgreSQL or the gate cannot be reached: the supervisor then starts another."""
        orphans = await in_thread(_take_over)
        own = await in_thread(_register)
        totals = {orphan.id: _accounts(orphan) for orphan in orphans}
        admission = Admission(own, orphan_totals=totals)
        settlement = Settlement(own, admission)
        upstream = Upstream()
        endings = Endings(admission, settlement, Live())
        listing = await in_thread(snapshot.load)
        gateway = Gateway(Callers(), Attempts(upstream, endings), endings, listing)
        exchange = Exchange(endings.live, own.id)
        process = cls(gateway, admission, settlement, upstream, exchange)
        for work in (admission.keep(), settlement.keep(), gateway.idempotency.keep(), exchange.keep()):
            process.keep(work)
        process.keep(gateway.logbook.keep())
        process.keep(process._refresh())
        process.keep(process._be_seen())
        process.keep(process._stay_small())
        process._tasks.append(asyncio.create_task(in_thread(tokencount.warm)))
        async with asyncio.timeout(_JOIN_SECONDS):
            await admission.joined.wait()
        for orphan in orphans:
            del admission.orphan_totals[orphan.id]  # first: what is closed is told to no epoch any more
            await in_thread(flush.close, orphan.id)
            crash.point("after_close")
            orphan.remove()
        _settle_memory()
        return process

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Work that ends with the process, and with it the process: it must not go on half alive."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self.ready and not task.cancelled():
            self.ready = False
            log.critical("a keeper ended; this process stops for another", exc_info=task.exception())
            os.kill(os.getpid(), signal.SIGTERM)

    async def stop(self) -> None:
        self.ready = False
        await keepers.end(self._tasks)
        drained = await self.settlement.drain(_DRAIN_SECONDS)
        self.settlement.spool.close(keep=not (drained and await self._close_spool()))
        await self.gateway.logbook.close()
        await self.exchange.close()
        await self.upstream.close()
        await self.gateway.idempotency.close()
        await self.admission.close()

    async def _close_spool(self) -> bool:
        """Its row and its folder go together: a row without a folder would be waited for by every epoch."""
        try:
            await in_thread(flush.close, self.settlement.spool.id)
        except DatabaseError as error:
            log.warning("the spool stays until another process closes it", extra={"error": str(error)})
            return False
        return True

    async def _be_seen(self) -> None:
        """Say that the process lives. One whose spool was abandoned ends: the next replays its folder."""
        while True:
            try:
                if not await in_thread(flush.seen, self.settlement.spool.id):
                    raise RuntimeError(f"the spool {self.settlement.spool.id} was closed by somebody else")
            except DatabaseError as error:
                log.warning("the spool is not seen to live", extra={"error": str(error)})
            await asyncio.sleep(_SEEN_SECONDS)

    async def _stay_small(self) -> None:
        """Of each account it charged, a process keeps a running total for as long as it lives: it may not
        grow for ever. What is over goes; one that knows too many all the same stops for another."""
        most = settings.SPOOL_MOST_ACCOUNTS * random.uniform(0.8, 1)  # noqa: S311 (not all of them at once)
        while True:
            await asyncio.sleep(_SMALL_SECONDS)
            await self.settlement.forget_over()
            if len(self.settlement.spool.totals) > most:
                log.warning("this process has charged many accounts; it stops for another")
                self.ready = False
                os.kill(os.getpid(), signal.SIGTERM)
                return

    async def _refresh(self) -> None:
        """The listing follows the catalog within a second or two; with all else away, the old one serves."""
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            try:
                listing = self.gateway.listing
                passed = listing.until is not None and clock.now() >= listing.until
                if passed or await in_thread(snapshot.version) != listing.version:
                    self.gateway.listing = found = await in_thread(snapshot.load)
                    self.exchange.live.keep_only(found.endpoint_slugs())
            except (kv.Failed, DatabaseError) as error:
                log.warning("the catalog cannot be read", extra={"error": str(error)})


def _settle_memory() -> None:
    """What was loaded by now stays: the collector need not look at it again with every thousandth call."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _register() -> Spool:
    own = Spool.create(settings.SPOOL_DIR)
    flush.register(own.id)
    crash.point("after_register")
    return own


def _take_over() -> list[Orphan]:
    orphans = []
    for orphan in spool.orphans(settings.SPOOL_DIR):
        records = flush.recover(orphan)
        log.warning("a dead process's spool was replayed", extra={"spool": orphan.id, "records": records})
        if flush.is_open(orphan.id):
            orphans.append(orphan)
        else:  # closed, or abandoned: the gate may have forgotten its totals before they were charged
            gate.reload_named({name for _, name in orphan.totals()})
            orphan.remove()
    return orphans


def _accounts(orphan: Orphan) -> dict[Account, int]:
    return {Account(name, organization, 0): total for (organization, name), total in orphan.totals().items()}
