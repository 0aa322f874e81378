"""Steps of processes and epochs: started, joined, stopped, killed; begun and opened."""

from __future__ import annotations

from collections.abc import Iterator

from tests.billing.protocol import scripts
from tests.billing.protocol.state import (
    ADMITTED,
    CLOSED,
    EARLY,
    GROWING,
    OPEN,
    OVER,
    RUNNING,
    SPOOLED,
    TOLD,
    UNREGISTERED,
    Model,
    State,
    Step,
    but,
    ordered,
    put,
)

UNDER_WAY = (ADMITTED, RUNNING, GROWING, EARLY)


def steps(m: Model, d: State) -> Iterator[Step]:
    for worker in m.workers:
        own = d["own"][worker]
        if own is None:
            yield from _start(m, d, worker)
            continue
        if d["registered"][own] == UNREGISTERED:
            yield Step(("register late", own), but(d, registered=put(d["registered"], own, OPEN)))
        if d["joining"][worker] is not None:
            yield from _join(m, d, worker)
        elif d["epoch"] and (d["adopted"][worker] != d["epoch"] or d["strangers"] >> worker & 1):
            yield _adopt(m, d, worker)
        if d["exits"]:
            yield from _exit(m, d, worker)
        if d["kills"]:
            yield _kill(m, d, worker)
            if d["lost_disks"]:
                yield _lose_disk(m, d, worker)
    yield from _epochs(m, d)


def _start(m: Model, d: State, worker: int) -> Iterator[Step]:
    adopted = put(d["adopted"], worker, 0)
    if not m.on["fresh_spool"]:
        last = [spool for spool in m.spools if d["slot"][spool] == worker][-1]
        base = put(d["base"], last, len(d["records"][last]))
        yield Step(
            ("start again with", worker, last),
            but(d, own=put(d["own"], worker, last), adopted=adopted, base=base),
        )
    elif None in d["slot"]:
        new = d["slot"].index(None)
        state = OPEN if m.on["register_first"] else UNREGISTERED
        after = but(
            d,
            own=put(d["own"], worker, new),
            adopted=adopted,
            slot=put(d["slot"], new, worker),
            registered=put(d["registered"], new, state),
        )
        yield Step(("start worker", worker, new), after)


def _adopt(m: Model, d: State, worker: int) -> Step:
    """The worker learns of an epoch that is not its own, and collects what it has to tell it."""
    own, spools = d["own"][worker], 0
    totals: list[tuple[int, int]] = []
    holds: list[tuple[int, int]] = []
    for spool in m.spools:
        if d["slot"][spool] != worker or d["registered"][spool] == CLOSED:
            continue
        spools |= 1 << spool
        live = [
            call
            for call in m.calls
            if spool == own == d["spool_of"][call] and d["stage"][call] in (RUNNING, GROWING)
        ]
        mine = spool == own or m.on["takeover_joins"]
        if (m.uncut(d, spool) or live) and m.on["join_totals"] and mine:
            totals.append((spool, m.total(d, spool)))
        if m.on["join_holds"]:
            holds += [(call, d["may_spend"][call]) for call in live]
    message = (d["epoch"], spools, tuple(totals), tuple(holds))
    after = but(
        d,
        adopted=put(d["adopted"], worker, d["epoch"]),
        joining=put(d["joining"], worker, message),
        strangers=d["strangers"] & ~(1 << worker),
    )
    return Step(("adopt", worker, *message), after)


def _join(m: Model, d: State, worker: int) -> Iterator[Step]:
    message = ("join", *d["joining"][worker])
    after = d.copy()
    answer = scripts.join(m, after, d["joining"][worker])
    if answer == "ok" and d["delays"]:
        yield Step(message, but(after, delays=d["delays"] - 1), answer, fault=True)
        later = but(d, delays=d["delays"] - 1, delayed=ordered((*d["delayed"], message)))
        yield Step(("delay", message), later, fault=True)
    after["joining"] = put(d["joining"], worker, None)
    yield Step(message, after, answer)


def _gone(d: State, worker: int) -> State:
    return but(
        d,
        own=put(d["own"], worker, None),
        adopted=put(d["adopted"], worker, 0),
        joining=put(d["joining"], worker, None),
        strangers=d["strangers"] & ~(1 << worker),
    )


def _exit(m: Model, d: State, worker: int) -> Iterator[Step]:
    own = d["own"][worker]
    busy = any(d["spool_of"][call] == own and d["stage"][call] in (*UNDER_WAY, SPOOLED) for call in m.calls)
    if not busy and not m.uncut(d, own):
        after = _gone(d, worker)
        after.update(exits=d["exits"] - 1, registered=put(d["registered"], own, CLOSED))
        yield Step(("stop", worker, own), after, fault=True)


def _kill(m: Model, d: State, worker: int) -> Step:
    after = _gone(d, worker)
    after["kills"] -= 1
    for call, spool, uncut in _calls_of(m, d, worker):
        if d["stage"][call] in UNDER_WAY and spool == d["own"][worker]:
            after["stage"] = put(after["stage"], call, OVER)
            after["excess"] &= ~(1 << call)
        elif uncut:
            after["stage"] = put(after["stage"], call, SPOOLED)
    return Step(("kill", worker, d["own"][worker]), after, fault=True)


def _lose_disk(m: Model, d: State, worker: int) -> Step:
    after = _gone(d, worker)
    after.update(kills=d["kills"] - 1, lost_disks=d["lost_disks"] - 1)
    for call, spool, uncut in _calls_of(m, d, worker):
        bit, flushed = 1 << call, d["generations"][call]
        under_way = d["stage"][call] in UNDER_WAY and spool == d["own"][worker]
        if under_way or (uncut and not flushed):
            after["stage"] = put(after["stage"], call, OVER)
            after["excess"] &= ~bit
        elif uncut:
            after["stage"] = put(after["stage"], call, TOLD)
            if d["stage"][call] == SPOOLED:  # in PostgreSQL; the gate perhaps not told, and nobody will
                after["excess"] |= bit
                after["stated"] |= bit
    for spool in m.spools:
        if d["slot"][spool] == worker:
            after["cut"] = put(after["cut"], spool, len(d["records"][spool]))
            after["lost"] |= 1 << spool
    return Step(("kill and lose the disk of", worker, d["own"][worker]), after, fault=True)


def _calls_of(m: Model, d: State, worker: int) -> Iterator[tuple[int, int, bool]]:
    """Calls of a worker's spools, and whether their record is there and not cut."""
    for call in m.calls:
        spool = d["spool_of"][call]
        if spool is not None and d["slot"][spool] == worker:
            settled = d["stage"][call] in (SPOOLED, TOLD)
            yield call, spool, settled and d["records"][spool].index(call) >= d["cut"][spool]


def _epochs(m: Model, d: State) -> Iterator[Step]:
    fresh = m.on["list_fresh"]
    if not d["epoch"] and any(own is not None for own in d["own"]):
        begun = but(d, **scripts.NO_EPOCH, next_epoch=d["next_epoch"] + 1)
        yield Step(("begin",), begun | {"epoch": d["next_epoch"]}, d["next_epoch"])
    if d["list"] is not None and not fresh and d["open"]:
        yield Step(("drop the list",), but(d, list=None))
    if d["list"] is None and ((d["epoch"] and not d["open"]) or (not fresh and d["restarts"])):
        listed = sum(
            1 << spool
            for spool in m.spools
            if d["registered"][spool] == OPEN and (m.on["list_orphans"] or spool in d["own"])
        )
        yield Step(("list", listed), but(d, list=(d["epoch"], listed)))
    if d["list"] is not None and d["epoch"]:
        yield from _open(m, d)


def _open(m: Model, d: State) -> Iterator[Step]:
    epoch, listed = d["list"]
    absent = listed & ~d["joined"]
    if epoch != d["epoch"] and m.on["list_fresh"]:
        yield Step(("open", epoch, listed, False), but(d, list=None), "stale")
    elif not d["open"] and (not absent or not m.on["wait_join"]):
        yield Step(("open", epoch, listed, False), but(d, open=1, list=None), "ok")
    elif not d["open"] and d["graces"]:
        after = but(d, open=1, list=None, graces=d["graces"] - 1)
        for call in m.calls:
            spool, stage = d["spool_of"][call], d["stage"][call]
            owed = stage in (SPOOLED, TOLD) and not d["generations"][call]
            if spool is not None and absent >> spool & 1 and (stage in UNDER_WAY[:3] or owed):
                after["excess"] |= 1 << call
                after["stated"] |= 1 << call
        yield Step(("open", epoch, listed, True), after, "ok", fault=True)
    if absent:
        did = ("open", epoch, listed, False) if not d["open"] else ("drop the list",)
        yield Step(did, but(d, list=None), "waits" if did[0] == "open" else None)
