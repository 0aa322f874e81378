"""Histories that break simpler protocols, to be followed with ours: step by step as far as it goes along."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from tests.billing.protocol import promises
from tests.billing.protocol.search import steps
from tests.billing.protocol.state import Model, State, Step

_SUBJECT = {
    **dict.fromkeys(("admit", "cover", "start", "discard", "learn", "append", "open", "join"), 2),
    **dict.fromkeys(("flush", "cut", "close", "kill", "stop", "adopt", "sweep", "start worker"), 1),
    "settle": 3,
}
"""Which part of a step says what it is done to; the others come only once at a time."""

NOT_AGAIN = ("admit", "cover", "delay", "refund", "top up")


def named(did: Sequence[Any]) -> tuple[Any, ...]:
    """`("admit", epoch, call, amount)` → `("admit", call)`."""
    place = _SUBJECT.get(did[0])
    return (did[0],) if place is None else (did[0], did[place])


def along(m: Model, history: Sequence[tuple[Any, ...]]) -> Iterator[tuple[State, Step]]:
    """Follow a history. A step that the rules do not allow there is left out: that is what they are for."""
    d = m.start()
    for wanted in history:
        for step in _possible(m, d, wanted):
            yield d, step
            d = step.state
    yield from to_rest(m, d)


def _possible(m: Model, d: State, wanted: tuple[Any, ...]) -> list[Step]:
    moves = list(steps(m, d))
    exact = [move for move in moves if move.did == wanted]
    return (exact or [move for move in moves if named(move.did) == named(wanted)])[:1]


def to_rest(m: Model, d: State) -> Iterator[tuple[State, Step]]:
    """No fault any more and no new call, until nothing is left to be done."""
    rng = random.Random(1)
    for _ in range(2000):
        if promises.at_rest(m, d):
            return
        moves = [move for move in steps(m, d) if not move.fault and move.did[0] not in NOT_AGAIN]
        step = rng.choices(moves, [0.1 if move.did[0] == "ticket" else 1 for move in moves])[0]
        yield d, step
        d = step.state
    raise AssertionError("it does not come to rest")


EMPTY = (("restart empty",), ("begin",))
JOINED = (("adopt", 0), ("join", 0, 1), ("adopt", 1), ("join", 0, 2), ("list",), ("open", 0, 3))
LOADED = (("ticket",), ("snapshot",), ("load",))
RUNS = (("admit", 0, 0), ("start", 0, 0))
ENDED = (*RUNS, ("append", 0, 0))
OTHER = (("admit", 0, 1), ("start", 0, 1))

NAIVE = {
    "live hold forgotten at the rebuild": ({"restarts": 1}, (*RUNS, *EMPTY, *LOADED, *OTHER)),
    "a worker registers its holds too late": (
        {"restarts": 1},
        (*RUNS, *EMPTY, ("adopt", 1), ("join", 0, 2), ("list",), ("open", 0, 3), *LOADED, *OTHER, *JOINED),
    ),
    "unflushed charge forgotten at the rebuild": (
        {"restarts": 1},
        (*ENDED, *EMPTY, *JOINED, *LOADED, *OTHER),
    ),
    "flushed between the rebuild's read and the registration": (
        {"restarts": 1},
        (*ENDED, *EMPTY, ("ticket",), ("snapshot",), ("flush", 0), *JOINED, ("load",), *LOADED, *OTHER),
    ),
    "in the rebuild and told again": (
        {"restarts": 1, "posting": True},
        (*ENDED, ("flush", 0), ("post",), *EMPTY, *JOINED, *LOADED, ("settle", 0, 3, 0), *OTHER),
    ),
    "two rebuilds, the second wipes an admission": (
        {"restarts": 1, "credit": 4, "loads_any_time": True},
        (*EMPTY, *JOINED, ("ticket",), ("snapshot",), ("ticket",), ("snapshot",), ("load",))
        + (*RUNS, ("load",), *OTHER),
    ),
    "settle sent twice": (
        {"delays": 1},
        (*ENDED, ("delay",), ("settle", 0, 3, 0), ("settle", 0, 3, 0), ("flush", 0), *OTHER),
    ),
    "settle sent twice, what remembered the first died with the gate": (
        {"delays": 1, "restarts": 1, "posting": True},
        (*ENDED, ("delay",), ("settle", 0, 3, 0), ("flush", 0), ("post",), *EMPTY, *JOINED, *LOADED)
        + (("settle", 0, 3, 0), *OTHER),
    ),
    "hold voided while the call runs, settle ignored": (
        {"late": 1},
        (*RUNS, ("sweep", 0), *OTHER, ("append", 0, 0), ("settle", 0, 3, 0)),
    ),
    "top-up lost, the process dies before telling the gate": (
        {"topup": 4, "kills": 1, "loads_any_time": True},
        (("top up",), ("kill", 0), *OTHER),
    ),
    "top-up twice, in the rebuild and then incremented": (
        {"topup": 4, "restarts": 1, "credit": 4, "loads_any_time": True},
        (("top up",), *EMPTY, *JOINED, *LOADED, *RUNS, *LOADED, *OTHER),
    ),
    "top-up lost, the rebuild read before it": (
        {"topup": 4, "restarts": 1, "credit": 4, "loads_any_time": True},
        (*EMPTY, *JOINED, ("ticket",), ("snapshot",), ("top up",), ("load",), *LOADED, *RUNS, *OTHER),
    ),
    "posting between two reads of one rebuild": (
        {"posting": True, "restarts": 1},
        (*ENDED, ("settle", 0, 3, 0), ("flush", 0), *EMPTY, *JOINED, ("ticket",), ("post",), ("snapshot",))
        + (("load",), *OTHER),
    ),
}
"""The thirteen ways in which a counter that is rebuilt fails, each as a world and a history."""
