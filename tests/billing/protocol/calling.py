"""Steps of calls: admitted, grown, renewed, ended, told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.billing.protocol import scripts
from tests.billing.protocol.state import (
    ADMITTED,
    EARLY,
    GROWING,
    IDLE,
    OVER,
    RUNNING,
    SPOOLED,
    TOLD,
    Model,
    State,
    Step,
    but,
    ordered,
    put,
)


def steps(m: Model, d: State) -> Iterator[Step]:
    for call in m.calls:
        worker, spool = m.world.calls[call].slot, d["spool_of"][call]
        stage, own = d["stage"][call], d["own"][worker]
        ready = (
            own is not None
            and d["joining"][worker] is None
            and bool(d["adopted"][worker])
            and not d["strangers"] >> worker & 1
        )
        if stage == IDLE and ready:
            yield from _admit(m, d, call)
        elif own == spool and stage in (ADMITTED, GROWING):
            yield _hear(m, d, call)
        if own == spool and stage in (RUNNING, GROWING):
            yield from _end(m, d, call)
        if own == spool and stage == EARLY:
            records = put(d["records"], spool, (*d["records"][spool], call))
            yield Step(
                ("append late", worker, call),
                but(d, stage=put(d["stage"], call, TOLD), records=records),
            )
        if own == spool and stage == RUNNING and ready:
            yield from _cover_more(m, d, call)
        if stage == SPOOLED:
            yield from _tell(m, d, call)
        if d["holds"][call]:
            yield from _void(m, d, call)


def _admit(m: Model, d: State, call: int) -> Iterator[Step]:
    worker, amount = m.world.calls[call].slot, m.world.calls[call].first
    epoch, own = d["adopted"][worker], d["own"][worker]
    after = d.copy()
    if scripts.cover(m, after, epoch, call, amount) == "ok":
        after.update(
            stage=put(d["stage"], call, ADMITTED),
            spool_of=put(d["spool_of"], call, own),
            may_spend=put(d["may_spend"], call, amount),
            asked_in=put(d["asked_in"], call, epoch),
        )
        yield Step(("admit", epoch, call, amount), after, "ok")
    if d["delays"]:
        lost = but(d, stage=put(d["stage"], call, OVER), spool_of=put(d["spool_of"], call, own))
        yield _delayed(lost, ("admit", epoch, call, amount))


def _hear(m: Model, d: State, call: int) -> Step:
    """The worker hears yes; it counts if the worker is still in the epoch in which it asked."""
    worker, full = m.world.calls[call].slot, m.world.calls[call].full
    counts = d["asked_in"][call] == d["adopted"][worker] or not m.on["reply_epoch"]
    stage = put(d["stage"], call, RUNNING)
    if d["stage"][call] == ADMITTED and counts:
        return Step(("start", worker, call), but(d, stage=stage))
    if d["stage"][call] == ADMITTED:
        gone = but(d, stage=put(d["stage"], call, OVER), excess=d["excess"] & ~(1 << call))
        return Step(("discard", worker, call), gone)
    if counts:
        grown = but(d, stage=stage, may_spend=put(d["may_spend"], call, full))
        return Step(("learn", worker, call, full), grown)
    return Step(("discard growth", worker, call), but(d, stage=stage))


def _end(m: Model, d: State, call: int) -> Iterator[Step]:
    worker, spool = m.world.calls[call].slot, d["spool_of"][call]
    true = min(m.world.calls[call].cost, d["may_spend"][call])
    for cost in (true, 0) if m.world.free_endings else (true,):
        after = but(
            d,
            stage=put(d["stage"], call, SPOOLED),
            cost=put(d["cost"], call, cost),
            records=put(d["records"], spool, (*d["records"][spool], call)),
        )
        yield Step(("append", spool, call, cost), after)
    if not m.on["spool_first"]:
        total = m.total(d, spool) + true
        after = but(d, cost=put(d["cost"], call, true), stage=put(d["stage"], call, EARLY))
        scripts.settle(m, after, spool, total, call)
        yield Step(("tell early", worker, call), after)


def _cover_more(m: Model, d: State, call: int) -> Iterator[Step]:
    worker, full = m.world.calls[call].slot, m.world.calls[call].full
    epoch, may = d["adopted"][worker], d["may_spend"][call]
    if may < full:
        after = d.copy()
        if scripts.cover(m, after, epoch, call, full) == "ok":
            after.update(stage=put(d["stage"], call, GROWING), asked_in=put(d["asked_in"], call, epoch))
            yield Step(("cover", epoch, call, full), after, "ok")
    if d["holds"][call] < may:
        after = d.copy()
        if scripts.cover(m, after, epoch, call, may) == "ok":
            after["excess"] &= ~(1 << call)
            yield Step(("cover", epoch, call, may), after, "ok")
    if d["delays"]:
        yield _delayed(d, ("cover", epoch, call, may))


def _tell(m: Model, d: State, call: int) -> Iterator[Step]:
    """The gate is told, by the worker or by who took over its spool; again until it has acknowledged."""
    spool = d["spool_of"][call]
    place, worker = d["records"][spool].index(call), d["slot"][spool]
    own = d["own"][worker] == spool
    theirs = d["own"][worker] is not None and place >= d["cut"][spool]
    if not (own or theirs) or (d["joining"][worker] is not None and m.on["join_first"]):
        return
    message = ("settle", spool, m.total_at(d, spool, place), call)
    after = d.copy()
    scripts.settle(m, after, *message[1:])
    if d["written_in"]:
        after["excess"] &= ~(1 << call)
    if d["delays"]:
        yield Step(message, but(after, delays=d["delays"] - 1), fault=True)
        yield _delayed(d, message)
    yield Step(message, but(after, stage=put(d["stage"], call, TOLD)))


def _void(m: Model, d: State, call: int) -> Iterator[Step]:
    """A hold past its lease goes: of a call that is over, or (a fault) of one that is not."""
    spool, stage = d["spool_of"][call], d["stage"][call]
    holds = put(d["holds"], call, 0)
    idle = stage in (TOLD, OVER)
    if stage == SPOOLED:
        place = d["records"][spool].index(call)
        idle = d["own"][d["slot"][spool]] != spool and place < d["cut"][spool]
    if idle:
        yield Step(("sweep", call), but(d, holds=holds))
    elif d["late"]:
        told = stage == SPOOLED and (d["totals"][spool] or 0) >= m.total_at(d, spool, place)
        bit = 0 if told else 1 << call
        after = but(d, holds=holds, excess=d["excess"] | bit, stated=d["stated"] | bit, late=d["late"] - 1)
        yield Step(("sweep", call), after, fault=True)


def _delayed(d: State, message: tuple[Any, ...]) -> Step:
    after = but(d, delayed=ordered((*d["delayed"], message)), delays=d["delays"] - 1)
    return Step(("delay", message), after, fault=True)
