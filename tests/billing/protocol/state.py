"""The state of the model: one organization, a few workers and calls. Every value in it is immutable.

A step is atomic at one place: a script of the gate, a transaction, a write to a local file, a decision
inside a process. Anything may happen between two steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.billing.protocol.rules import RULES
from tests.billing.protocol.worlds import World

State = dict[str, Any]

# Stages of a call.
IDLE, ADMITTED, RUNNING, SPOOLED, TOLD, OVER, GROWING, EARLY = range(8)
"""ADMITTED and GROWING: the gate has said yes, the worker has not heard it. OVER: ended free, or died.
EARLY: the gate was told before the spool (only without the rule `spool_first`)."""

FAULTS = (
    *("kills", "exits", "restarts", "old_files", "evictions"),
    *("delays", "late", "graces", "lost_disks", "forgets"),
)
"""A state counts down how often each may still happen."""

UNREGISTERED, OPEN, CLOSED = range(3)
PENDING, CONFIRMED, DENIED, CANCELLED = 1, 2, 3, 4


class Step(NamedTuple):
    """What was done (a verb and its subjects), the state after it, and what was answered."""

    did: tuple[Any, ...]
    state: State
    answer: Any = None
    fault: bool = False


class Model:
    """A world and which rules are on; computes what several kinds of step need to know."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.on = {rule: rule not in world.without for rule in RULES}
        self.calls = range(len(world.calls))
        self.workers = range(world.slots)
        self.spools = range(world.slots + world.kills + world.exits)

    def start(self) -> State:
        """At rest: every worker joined, the wallet loaded, no call yet."""
        world, calls, spools = self.world, len(self.calls), len(self.spools)
        zeros, first = (0,) * calls, world.slots
        return {
            # PostgreSQL
            "credits": world.credit,
            "generations": zeros,
            "posted": zeros,
            "tallies": (0,) * spools,
            "registered": (OPEN,) * first + (UNREGISTERED,) * (spools - first),
            "refund": 0,
            "batches": (),
            # The gate: the epoch hash, then the wallet (its ticket is that of the newest load under way)
            "epoch": 1,
            "open": 1,
            "joined": 2**first - 1,
            "marked": 1,
            "credit": world.credit,
            "loaded_in": 1,
            "written_in": 1,
            "totals": (None,) * spools,
            "holds": zeros,
            "next_epoch": 2,
            # Workers: own spool, epoch adopted, join under way, those that have not met the new server
            "own": tuple(range(first)),
            "adopted": (1,) * first,
            "joining": (None,) * first,
            "strangers": 0,
            # Calls
            "stage": zeros,
            "spool_of": (None,) * calls,
            "may_spend": zeros,
            "asked_in": zeros,
            "cost": zeros,
            # Spool files: whose, their records, how many are cut, the first of this life
            "slot": tuple(range(first)) + (None,) * (spools - first),
            "records": ((),) * spools,
            "cut": (0,) * spools,
            "base": (0,) * spools,
            # Under way
            "delayed": (),
            "loads": (),
            "list": None,
            "increment": 0,
            # What may still happen
            "topups": int(world.topup > 0),
            **{fault: getattr(world, fault) for fault in FAULTS},
            # Calls that the gate does not hold although they spend; those of them that are stated
            "excess": 0,
            "stated": 0,
            "file": None,
            "lost": 0,
        }

    def total(self, d: State, spool: int) -> int:
        """The running total of a spool's present life."""
        return sum(d["cost"][call] for call in d["records"][spool][d["base"][spool] :])

    def total_at(self, d: State, spool: int, place: int) -> int:
        """The running total that the record at `place` carries."""
        first = d["base"][spool] if place >= d["base"][spool] else 0
        return sum(d["cost"][call] for call in d["records"][spool][first : place + 1])

    def uncut(self, d: State, spool: int) -> tuple[int, ...]:
        return d["records"][spool][d["cut"][spool] :]

    def balance(self, d: State) -> int:
        """Credits less what PostgreSQL knows as charged, posted or not."""
        charged = 0
        for call in self.calls:
            charged += d["cost"][call] * (d["posted"][call] or d["generations"][call])
        return d["credits"] - charged

    def snapshot(self, d: State, posted_balance: int | None = None) -> tuple[Any, ...]:
        """One statement: credit base, tallies of spools not closed, closed spools, state of the refund."""
        unposted = sum(
            d["cost"][call] * d["generations"][call] for call in self.calls if not d["posted"][call]
        )
        credit = self.balance(d) if posted_balance is None else posted_balance - unposted
        if not self.on["unposted"]:
            credit += unposted
        tallies = tuple(
            tally if registered == OPEN else None
            for registered, tally in zip(d["registered"], d["tallies"], strict=True)
        )
        if self.on["tally_in_c"]:
            credit += sum(tally for tally in tallies if tally)
        closed = sum(1 << spool for spool in self.spools if d["registered"][spool] == CLOSED)
        return credit, tallies, closed, d["refund"]


def put(values: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (*values[:place], value, *values[place + 1 :])


def but(d: State, **changes: Any) -> State:
    """The same state with some values changed."""
    return d | changes


def ordered(values: Any) -> tuple[Any, ...]:
    """Things under way have no order: one representative for each set of them."""
    return tuple(sorted(values, key=repr))


def without(values: tuple[Any, ...], value: Any) -> list[Any]:
    rest = list(values)
    rest.remove(value)
    return rest
