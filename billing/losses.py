"""What free endings have cost us today, by organization, so that nobody can live on them.

The truth is `loss_nanos` of the generations. This is a guard beside it that asks no database: a process
knows its own sum at once, and the sum of all processes as of its own last loss. Both may be lost with
Redis, and every day begins anew. What is told to the gate is a running total, so it may be repeated.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from aggregator.lib import clock, kv
from billing import ledger
from billing.core import chart, gate_scripts
from billing.core.money import NANOS_PER_USD

_KEPT_SECONDS = 2 * 86_400


def book_after_cancel(generation: str, organization_id: int, nanos: int) -> None:
    """What a provider billed beyond the record of a call that had ended; once a generation."""
    ledger.post(
        "after_cancel",
        generation,
        entries={(chart.PROVIDER_COST, None): nanos, (chart.LOSS, None): -nanos},
        organization_id=organization_id,
        source="generation",
    )


@dataclass(slots=True)
class FreeLosses:
    """Belongs to the event loop. Organizations by public id, amounts in nanos."""

    pipeline: kv.TickPipeline
    spool: str
    _day: str = ""
    _own: dict[str, int] = field(default_factory=dict)
    _all: dict[str, int] = field(default_factory=dict)

    def used_up(self, organization: str) -> bool:
        """Whether free endings have cost us more today, UTC, than `FREE_LOSS_PER_DAY_USD`."""
        self._turn()
        known = max(self._own.get(organization, 0), self._all.get(organization, 0))
        return known >= int(settings.FREE_LOSS_PER_DAY_USD * NANOS_PER_USD)

    def add(self, organization: str, nanos: int) -> None:
        self._turn()
        self._own[organization] = total = self._own.get(organization, 0) + nanos
        self._all[organization] = self._all.get(organization, 0) + nanos
        key = f"{kv.shard(organization)}:l:{organization}:{self._day}"
        arguments: list[str | int] = [self.spool, total, _KEPT_SECONDS]
        told = self.pipeline.run(gate_scripts.LOSE, [key], arguments)
        day = self._day
        told.add_done_callback(lambda answer: self._told(day, organization, answer))

    def _told(self, day: str, organization: str, answer: asyncio.Future[Any]) -> None:
        """With the gate away this process goes by its own sum; its next loss tells the whole again."""
        if not answer.cancelled() and answer.exception() is None and day == self._day:
            self._all[organization] = max(self._all[organization], int(answer.result()))

    def _turn(self) -> None:
        today = clock.now().date().isoformat()
        if today != self._day:
            self._day = today
            self._own.clear()
            self._all.clear()
