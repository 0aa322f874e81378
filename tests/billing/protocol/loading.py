"""Steps of loads, each of three parts: ticket, snapshot, script; without some rules, of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.billing.protocol import scripts
from tests.billing.protocol.state import (
    CONFIRMED,
    DENIED,
    PENDING,
    Model,
    State,
    Step,
    but,
    ordered,
    without,
)


def steps(m: Model, d: State) -> Iterator[Step]:
    if len(d["loads"]) < m.world.most_loads or m.on["ticket"]:
        yield from _begin(m, d)
    for load in dict.fromkeys(d["loads"]):
        rest = without(d["loads"], load)
        if load[0] == "early":
            yield from _ticket(m, but(d, loads=tuple(rest)), load[1])
        elif load[0] == "ticket" and m.on["one_snapshot"]:
            found = m.snapshot(d)
            read = but(d, loads=ordered([*rest, ("read", *load[1:], found)]))
            yield Step(("snapshot", load[2]), read, found)
        elif load[0] == "half":
            found = m.snapshot(d, load[1])
            read = but(d, loads=ordered([*rest, ("read", *load[2:], found)]))
            yield Step(("then the unposted generations",), read, found)
        elif load[0] == "read":
            yield from _load(m, d, load, tuple(rest))


def _begin(m: Model, d: State) -> Iterator[Step]:
    useful = _useful(m, d)
    if not m.on["ticket_first"]:
        if useful and len(d["loads"]) < m.world.most_loads:
            found = m.snapshot(d)
            yield Step(
                ("snapshot before the ticket",), but(d, loads=ordered([*d["loads"], ("early", found)]))
            )
    elif useful and d["epoch"] and (d["open"] or not m.on["ticket_open"]):
        yield from _ticket(m, d, None)
    if not m.on["one_snapshot"]:
        balance = d["credits"] - sum(d["cost"][call] * d["posted"][call] for call in m.calls)
        for load in d["loads"]:
            if load[0] == "ticket":
                half = ("half", balance, *load[1:])
                rest = [other for other in d["loads"] if other != load]
                yield Step(("read the posted balance only",), but(d, loads=ordered([*rest, half])))


def _useful(m: Model, d: State) -> bool:
    """Would a load change anything? Else only a world that loads at any time tries one."""
    credit, tallies, closed, _ = m.snapshot(d)
    if m.world.loads_any_time or d["forgets"] or d["refund"] == PENDING:
        return True
    if d["loaded_in"] != d["epoch"] or credit != d["credit"]:
        return True
    return any(
        (total or 0) < (tally or 0) or (closed >> spool & 1 and total is not None)
        for spool, (tally, total) in enumerate(zip(tallies, d["totals"], strict=True))
    )


def _ticket(m: Model, d: State, early: Any) -> Iterator[Step]:
    """`early`: a snapshot that was read before (without the rule `ticket_first`)."""
    after = d.copy()
    listed = scripts.ticket(m, after)
    if listed is not None:
        under_way = ("ticket", d["epoch"], listed) if early is None else ("read", d["epoch"], listed, early)
        after["loads"] = ordered([*after["loads"], under_way])
    if listed is not None or early is None:
        yield Step(("ticket", d["epoch"]), after, listed)


def _load(m: Model, d: State, load: tuple[Any, ...], rest: tuple[Any, ...]) -> Iterator[Step]:
    if d["forgets"]:
        after = but(d, loads=rest, forgets=d["forgets"] - 1)
        answer = scripts.load(m, after, load, forget=True)
        yield Step(("load", *load[1:], True), after, answer)
    after = but(d, loads=rest)
    answer = scripts.load(m, after, load)
    if d["refund"] == PENDING and load[3][3] == PENDING:
        state = CONFIRMED if scripts.spendable(after) >= 0 else DENIED
        yield Step(("load", *load[1:], False), but(after, refund=state), answer)
    yield Step(("load", *load[1:], False), after, answer)
