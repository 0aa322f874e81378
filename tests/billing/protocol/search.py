"""Looking for a broken promise: everywhere in a small world, at random in a large one."""

from __future__ import annotations

import hashlib
import marshal
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.billing.protocol import calling, faults, joining, loading, promises, spooling
from tests.billing.protocol.state import Model, State, Step
from tests.billing.protocol.worlds import MISSED_IN, World

FINISHED, UNFINISHED = "holds", "not searched whole"


@dataclass(frozen=True, slots=True)
class Found:
    """A verdict: `holds`, or the promise broken and the history that broke it."""

    verdict: str
    states: int
    history: tuple[tuple[Any, ...], ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.verdict} ({self.states} states)"]
        return "\n".join(lines + [f"  {n} {did}" for n, did in enumerate(self.history, 1)])


def steps(m: Model, d: State) -> Iterator[Step]:
    """Everything that may happen next."""
    yield from calling.steps(m, d)
    yield from spooling.steps(m, d)
    yield from joining.steps(m, d)
    yield from loading.steps(m, d)
    yield from spooling.money(m, d)
    yield from faults.steps(m, d)


def search(world: World, most: int = 10**9) -> Found:
    """Breadth first through every state, so that the first broken promise has the shortest history."""
    m = Model(world)
    start = m.start()
    parents: dict[bytes, tuple[bytes, tuple[Any, ...]] | None] = {_key(start): None}
    level = [(_key(start), start)]
    while level:
        if len(parents) > most:
            return Found(UNFINISHED, len(parents))
        following = []
        for key, d in level:
            moves = list(steps(m, d))
            if all(move.fault for move in moves) and not promises.at_rest(m, d):
                return Found("stuck", len(parents), _history(parents, key))
            for did, after, _, _ in moves:
                reached = _key(after)
                if reached in parents:
                    continue
                parents[reached] = (key, did)
                if wrong := promises.broken(m, after):
                    return Found(wrong, len(parents), _history(parents, reached))
                following.append((reached, after))
        level = following
    return Found(FINISHED, len(parents))


def hunt(rule: str) -> Found:
    """The shortest history that breaks a promise without this rule."""
    return search(World(without=(rule,), **MISSED_IN.get(rule, {"restarts": 1})), 400_000)


def never_at_rest(world: World) -> int:
    """How many reachable states cannot come to rest, though no further fault happens."""
    m = Model(world)
    start = m.start()
    before: dict[bytes, list[bytes]] = {}
    seen, resting, level = {_key(start)}, set(), [start]
    while level:
        following = []
        for d in level:
            key = _key(d)
            if promises.at_rest(m, d):
                resting.add(key)
            for _, after, _, fault in steps(m, d):
                reached = _key(after)
                if not fault:
                    before.setdefault(reached, []).append(key)
                if reached not in seen:
                    seen.add(reached)
                    following.append(after)
        level = following
    good, todo = set(resting), list(resting)
    while todo:
        for key in before.get(todo.pop(), ()):
            if key not in good:
                good.add(key)
                todo.append(key)
    return len(seen - good)


def walk(m: Model, rng: random.Random, length: int, *, faulty: float = 0.1) -> Iterator[tuple[State, Step]]:
    """One way through the world, of states and the steps from them, a fault at every tenth or so."""
    d = m.start()
    for _ in range(length):
        moves = list(steps(m, d))
        odd = [move for move in moves if move.fault]
        plain = [move for move in moves if not move.fault]
        if not moves:
            return
        some = odd if odd and (rng.random() < faulty or not plain) else plain
        step = rng.choices(some, [_WEIGHTS.get(move.did[0], 1) for move in some])[0]
        yield d, step
        d = step.state


_WEIGHTS = {"ticket": 0.1, "append": 0.5, "flush": 0.5}
"""Else loads, which are possible nearly always, crowd out the rest, and calls end before anything else."""


def _key(d: State) -> bytes:
    return hashlib.blake2b(marshal.dumps(tuple(d.values()), 2), digest_size=12).digest()


def _history(
    parents: dict[bytes, tuple[bytes, tuple[Any, ...]] | None], key: bytes
) -> tuple[tuple[Any, ...], ...]:
    history = []
    while (step := parents[key]) is not None:
        key, did = step
        history.append(did)
    return tuple(reversed(history))
