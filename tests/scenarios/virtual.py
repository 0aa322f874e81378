"""The same worlds without a product: the selector and what it remembers, in virtual time.

Nothing sleeps, so all seeds take seconds and the same run always has the same figures. What is not here is
everything between a call and its provider: `stage` has that.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from billing.core.pricing import parse_price
from routing.core import failures, folds, route
from routing.core.chat import Chat
from routing.core.circuits import Circuits
from routing.core.failures import Failure
from routing.core.folds import Fold, Folds
from routing.core.listing import Endpoint, Listing, Model, Provider
from routing.core.live import Live
from routing.core.vitals import Snapshot, Vitals
from routing.figures import STRETCH_SECONDS
from tests.scenarios import oracle
from tests.scenarios.oracle import Attempt, Verdict
from tests.scenarios.worlds import CALLS_PER_SECOND, PROMPT_TOKENS, TOKENS, Place, World

WORKERS = 2
LATELY, HALVES_EVERY = 6, 2
"""In stretches, as `routing.merging` has them; it needs Redis and PostgreSQL."""
MOST_ATTEMPTS = 3
FIRST_EVENT_SECONDS = 2.0
LISTED_AFTER_SECONDS = 0.6
"""Until a worker has the listing with a new price."""
MERGED_EVERY_SECONDS = 0.5
_REFUSED_SECONDS = 0.005
_OVERHEAD_SECONDS = 0.004
_NOISE = 0.03


@dataclass
class Worker:
    """What one gateway process remembers, told as the gateway tells it."""

    live: Live = field(default_factory=Live)
    circuits: Circuits = field(default_factory=lambda: Circuits(random.Random(0)))
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def choose(self, chat: Chat, listing: Listing, allowed: Collection[str], now: float) -> list[Endpoint]:
        """The endpoints to try, in order."""
        chosen = route.choose(
            chat,
            listing=listing,
            live=self.live,
            allowed_models=allowed,
            now=now,
            resting=self.circuits.resting(now),
            watched=self.circuits.watched,
            draws=(self.chance.random(), self.chance.random()),
        )
        return [target.endpoint for target in chosen.targets][:MOST_ATTEMPTS]

    def begun(self, slug: str, now: float) -> None:
        """An attempt was dispatched."""
        self.circuits.begun(slug, now)

    def failed(self, slug: str, failure: Failure, *, began: float, now: float) -> None:
        self.circuits.failed(slug, failure.kind, began=began, now=now, retry_after=failure.retry_after)
        self.live.failed(slug, rate_limited=failure.kind == failures.RATE_LIMITED)

    def answered(self, slug: str, *, first: float, began: float, now: float) -> None:
        self.live.observe(slug, ttft_seconds=first, tokens=TOKENS, seconds=now - began, now=now)
        self.circuits.succeeded(slug, began=began, now=now)


@dataclass
class Merging:
    """What all workers together have seen, as the job that merges it tells them."""

    workers: list[Worker]
    told: dict[int, list[Folds]] = field(default_factory=dict)
    """By stretch, one for each worker."""
    version: int = 0

    def look(self, now: float) -> Snapshot:
        """The snapshot as of now. There is no history: a world lasts for seconds."""
        newest = int(now // STRETCH_SECONDS)
        if newest not in self.told:
            for worker in self.workers:
                worker.live.folds = {}
            self.told[newest] = []
        self.told[newest] = [worker.live.folds for worker in self.workers]
        merged: dict[int, Folds] = {}
        for stretch, parts in self.told.items():
            merged[stretch] = {}
            for part in parts:
                folds.merge(merged[stretch], part)
        self.version += 1
        slugs = {slug for seen in merged.values() for slug in seen}
        return Snapshot(
            self.version, now, {slug: self._vitals(slug, newest, merged) for slug in sorted(slugs)}
        )

    @staticmethod
    def _vitals(slug: str, newest: int, merged: dict[int, Folds]) -> Vitals:
        seen = {stretch: found[slug] for stretch, found in merged.items() if slug in found}
        minutes = Fold()
        for fold in seen.values():
            minutes.add(fold)
        lately = [
            (0.5 ** ((newest - stretch) / HALVES_EVERY), fold)
            for stretch, fold in seen.items()
            if stretch > newest - LATELY
        ]
        return folds.vitals(minutes, lately, half_hour=minutes.tally(), day=minutes.tally(), healthy=None)


@dataclass
class Virtual:
    """One world, played once."""

    world: World
    now: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)
    labels: dict[str, tuple[float, bool]] = field(default_factory=dict)
    make_worker: Callable[[], Worker] = Worker

    def __post_init__(self) -> None:
        self.chance = random.Random(f"virtual:{self.world.name}")
        self.workers = [self.make_worker() for _ in range(WORKERS)]
        self.merging = Merging(self.workers)
        self.listing = _listing(self.world, 0.0)
        self._let_in: dict[str, deque[float]] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._count), what))

    def play(self) -> Verdict:
        for event in self.world.events:
            if event.dearer != 1:
                self.at(event.after + LISTED_AFTER_SECONDS, self._list)
        for number in range(1, int(self.world.seconds / MERGED_EVERY_SECONDS)):
            self.at(number * MERGED_EVERY_SECONDS, self._merge)
        for number in range(int(self.world.seconds * CALLS_PER_SECOND)):
            when = (number + self.chance.uniform(0, 0.8)) / CALLS_PER_SECOND
            self.at(when, lambda label=str(number): self._call(label))
        while self._agenda:
            self.now, _, what = heapq.heappop(self._agenda)
            what()
        return oracle.judge(self.world, self.labels, self.attempts)

    def _merge(self) -> None:
        """Each worker hears of it a moment later."""
        snapshot = self.merging.look(self.now)
        for worker in self.workers:
            hears = self.now + self.chance.uniform(0.1, 0.5)
            self.at(hears, lambda worker=worker: worker.live.learn(snapshot))

    def _list(self) -> None:
        self.listing = _listing(self.world, self.now)

    def _call(self, label: str) -> None:
        worker = self.chance.choice(self.workers)
        world = self.world
        chat = Chat(
            "auto" if world.auto else world.models[0],
            True,
            PROMPT_TOKENS,
            max_tokens=TOKENS,
            preference=None if world.preference == "default" else world.preference,
        )
        self.labels[label] = self.now, False
        targets = worker.choose(chat, self.listing, world.models, self.now)
        self._attempt(label, worker, targets)

    def _attempt(self, label: str, worker: Worker, left: list[Endpoint]) -> None:
        if not left:
            return
        endpoint, *others = left
        began = self.now
        place = next(place for place in self.world.places if place.slug == endpoint.slug)
        worker.begun(endpoint.slug, began)
        trouble = self._trouble(place)
        if trouble is not None:
            self.attempts.append(Attempt(label, place.provider, began, trouble.ending))

            def fail() -> None:
                worker.failed(endpoint.slug, trouble.failure, began=began, now=self.now)
                self._attempt(label, worker, others)

            self.at(began + trouble.seconds, fail)
            return
        self.attempts.append(Attempt(label, place.provider, began, "complete"))
        (true,) = (found for found in oracle.in_force(self.world, began) if found.letter == place.letter)
        noise = self.chance.lognormvariate(0, _NOISE)
        first = true.ttft_ms / 1000 * noise + _OVERHEAD_SECONDS

        def answer() -> None:
            worker.answered(endpoint.slug, first=first, began=began, now=self.now)
            self.labels[label] = self.labels[label][0], True

        self.at(began + first + TOKENS / true.tokens_per_second * noise, answer)

    def _trouble(self, place: Place) -> _Trouble | None:
        """Why this attempt fails; None when it will not."""
        for event in self.world.events:
            if event.place.letter != place.letter or not event.after <= self.now < event.until:
                continue
            if event.hang:
                return _Trouble(FIRST_EVENT_SECONDS, "hung", Failure(failures.TIMEOUT))
            if event.capacity is not None:
                let_in = self._let_in.setdefault(place.letter, deque())
                while let_in and let_in[0] <= self.now - 1:
                    let_in.popleft()
                if len(let_in) + 1 > event.capacity:
                    return _Trouble(_REFUSED_SECONDS, "refused", failures.of_status(429, "", retry_after=1))
                let_in.append(self.now)
            if self.chance.random() < event.failure:
                return _Trouble(_REFUSED_SECONDS, "refused", failures.of_status(event.status, ""))
        return None


@dataclass(frozen=True)
class _Trouble:
    seconds: float
    ending: str
    failure: Failure


def play(world: World) -> Verdict:
    return Virtual(world).play()


def _listing(world: World, at: float) -> Listing:
    """The catalog's view at a moment: prices as they are, paces as they are stated."""
    models = {
        slug: Model(slug, slug, 64_000, 8192, "standard", True, frozenset(), 1_700_000_000)
        for slug in world.models
    }
    endpoints: dict[str, tuple[Endpoint, ...]] = {}
    for number, place in enumerate(oracle.in_force(world, at), 1):
        endpoint = Endpoint(
            slug=place.slug,
            provider=Provider(place.provider, place.provider, "openai", "http://127.0.0.1:1/v1", "simulated"),
            model=models[place.model],
            upstream_name=place.upstream_name,
            max_output=8192,
            price=parse_price(number, {"input": f"{place.input:f}", "output": f"{place.output:f}"}),
            ttft_seconds=place.stated_ttft_ms / 1000,
            tokens_per_second=place.stated_tokens_per_second,
        )
        endpoints[place.model] = (*endpoints.get(place.model, ()), endpoint)
    return Listing(int(at * 1000) + 1, models, endpoints)
