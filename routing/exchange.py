"""What a worker tells the others of its traffic, and hears of theirs: a command or two every half second.
Which budgets have refused a call goes along.

No call waits for it. With the cache away, or no job that merges, a worker goes on with what itself has seen.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from aggregator.lib import kv
from aggregator.lib.deadlines import within
from billing import refused
from routing import figures
from routing.core.folds import Folds
from routing.core.live import Live, made_ready

log = logging.getLogger(__name__)

EVERY_SECONDS = 0.4
STALE_SECONDS = 15.0
"""A snapshot that nobody has renewed for so long is not gone by any more."""
_ANSWER_SECONDS = 2.0
_AT_ONCE = 100
"""So many endpoints of a snapshot are made ready before calls have their turn again: some 0.2 ms."""
_MOST_STRETCHES = 24
"""Those that could not be told wait, two minutes' worth."""


@dataclass(slots=True)
class Exchange:
    """One per worker. `name` is its own, also among those that come after it."""

    live: Live
    name: str
    _client: kv.AsyncClient = field(init=False)
    _stretch: int = -1
    _observations: int = 0
    _past: dict[int, Folds] = field(default_factory=dict)
    """Finished stretches that are still to be told."""
    _head: str = ""
    _heard_at: float = 0.0
    _away: bool = False

    def __post_init__(self) -> None:
        self._client = kv.async_cache()

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self.turn(unix=time.time(), now=time.monotonic())

    async def close(self) -> None:
        await self._client.aclose()

    async def turn(self, *, unix: float, now: float) -> None:
        """Tell what is new, hear what is new. `unix` tells stretches, `now` is monotonic."""
        stretch = figures.stretch(unix)
        if stretch != self._stretch:
            self._begin(stretch)
        try:
            with within(_ANSWER_SECONDS):
                await self._talk(now)
            self._away = False
        except (kv.Failed, OSError) as error:
            if not self._away:
                log.warning("live figures are not exchanged", extra={"error": str(error)})
            self._away = True
        if self.live.snapshot.version and now - self._heard_at > STALE_SECONDS:
            self.live.go_alone(now)

    def _begin(self, stretch: int) -> None:
        """What was seen since the last turn still counts to the stretch before."""
        if self.live.folds and self._stretch >= 0:
            self._past[self._stretch] = self.live.folds
            self.live.folds = {}
            while len(self._past) > _MOST_STRETCHES:
                del self._past[min(self._past)]
        self._stretch = stretch

    async def _talk(self, now: float) -> None:
        pipeline = self._client.pipeline(transaction=False)
        past = list(self._past)
        for stretch in past:
            figures.tell(pipeline, stretch, self.name, self._past[stretch])
        observations = self.live.observations
        if observations != self._observations and self.live.folds:
            figures.tell(pipeline, self._stretch, self.name, self.live.folds)
        marks = refused.tell(pipeline)
        pipeline.get(figures.HEAD)
        answers = await pipeline.execute()
        for stretch in past:
            del self._past[stretch]
        refused.told(marks)
        self._observations = observations
        await self._hear(answers[-1], now)

    async def _hear(self, head: Any, now: float) -> None:
        version = figures.version(head)
        if not version or head == self._head:
            return
        self._heard_at = now
        if version != self.live.snapshot.version:
            snapshot = figures.snapshot(await self._client.get(figures.SNAPSHOT))
            if not snapshot.version:
                return
            every = list(snapshot.endpoints.items())
            ready = made_ready(())
            for at in range(0, len(every), _AT_ONCE):
                ready |= made_ready(every[at : at + _AT_ONCE])
                await asyncio.sleep(0)
            self.live.learn(snapshot, ready)
        self._head = head
