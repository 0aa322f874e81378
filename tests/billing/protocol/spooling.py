"""Steps of spools: flushed to PostgreSQL, cut, closed; and what PostgreSQL does with money."""

from __future__ import annotations

from collections.abc import Iterator

from tests.billing.protocol.state import (
    CANCELLED,
    CLOSED,
    CONFIRMED,
    DENIED,
    OPEN,
    PENDING,
    TOLD,
    Model,
    State,
    Step,
    but,
    ordered,
    put,
)


def steps(m: Model, d: State) -> Iterator[Step]:
    for spool in m.spools:
        worker = d["slot"][spool]
        if worker is None or d["own"][worker] is None or d["registered"][spool] == CLOSED:
            continue
        uncut = m.uncut(d, spool)
        if uncut:
            yield from _flush(m, d, spool)
            committed = all(d["generations"][call] for call in uncut) or not m.on["cut_after_pg"]
            told = all(d["stage"][call] == TOLD for call in uncut) or not m.on["cut_after_redis"]
            if committed and told:
                after = but(d, cut=put(d["cut"], spool, len(d["records"][spool])))
                yield Step(("cut", spool), after)
            if not m.on["tally_same_tx"] and d["tallies"][spool] < m.total(d, spool):
                after = but(d, tallies=put(d["tallies"], spool, m.total(d, spool)))
                yield Step(("write tally", spool), after)
        dead = d["own"][worker] != spool
        if dead and d["registered"][spool] == OPEN and (not uncut or not m.on["close_last"]):
            yield Step(("close", spool), but(d, registered=put(d["registered"], spool, CLOSED)))


def _flush(m: Model, d: State, spool: int) -> Iterator[Step]:
    uncut = m.uncut(d, spool)
    new = [call for call in uncut if not d["generations"][call]]
    repeated = len(new) < len(uncut) and not (m.on["unique_gen"] and m.on["tally_max"])
    tally_stands = m.on["tally_same_tx"] or d["tallies"][spool] == m.total(d, spool)
    if not (new or repeated) or not tally_stands:
        return
    generations, tally = d["generations"], d["tallies"][spool]
    for call in uncut:
        if not generations[call]:
            generations = put(generations, call, 1)
        elif repeated and not m.on["unique_gen"]:
            generations = put(generations, call, min(2, generations[call] + 1))
    if m.on["tally_same_tx"] and m.on["tally_max"]:
        tally = max(tally, m.total_at(d, spool, len(d["records"][spool]) - 1))
    elif m.on["tally_same_tx"] and tally <= m.total(d, spool):
        tally += sum(d["cost"][call] for call in (uncut if repeated else new))
    if (generations, tally) == (d["generations"], d["tallies"][spool]):
        return
    message = ("flush", spool, tuple(uncut), m.total(d, spool))
    yield Step(message, but(d, generations=generations, tallies=put(d["tallies"], spool, tally)))
    if d["delays"]:
        after = but(d, delays=d["delays"] - 1, delayed=ordered((*d["delayed"], message)))
        yield Step(("delay", message), after, fault=True)


def money(m: Model, d: State) -> Iterator[Step]:
    """Top-ups, refunds, postings."""
    world = m.world
    if d["topups"]:
        after = but(d, topups=0, credits=d["credits"] + world.topup)
        if not m.on["topup_load"]:
            after["increment"] = world.topup
        yield Step(("top up", world.topup), after)
    if d["increment"]:
        credit = None if d["credit"] is None else d["credit"] + d["increment"]
        yield Step(("increment", d["increment"]), but(d, increment=0, credit=credit))
    if world.refund and not d["refund"] and m.balance(d) >= world.refund:
        state = PENDING if m.on["refund_confirm"] else CONFIRMED
        yield Step(("refund", world.refund), but(d, credits=d["credits"] - world.refund, refund=state))
    if d["refund"] == DENIED:
        yield Step(("cancel refund",), but(d, credits=d["credits"] + world.refund, refund=CANCELLED))
    if world.posting:
        yield from _post(m, d)


def _post(m: Model, d: State) -> Iterator[Step]:
    batch = tuple(call for call in m.calls if d["generations"][call] and not d["posted"][call])
    if m.on["post_once"]:
        if batch:
            yield Step(("post",), but(d, posted=tuple(int(n > 0) for n in d["generations"])))
        return
    if batch and len(d["batches"]) < 2:
        yield Step(("pick", batch), but(d, batches=(*d["batches"], batch)))
    if d["batches"]:
        posted = d["posted"]
        for call in d["batches"][0]:
            posted = put(posted, call, posted[call] + 1)
        yield Step(("post", d["batches"][0]), but(d, posted=posted, batches=d["batches"][1:]))
