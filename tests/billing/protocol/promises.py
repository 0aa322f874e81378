"""What must be true of every state. I1: charged once. I2: at rest the gate agrees. I3: nobody overspends."""

from __future__ import annotations

from tests.billing.protocol import scripts
from tests.billing.protocol.state import (
    DENIED,
    EARLY,
    GROWING,
    IDLE,
    OPEN,
    OVER,
    PENDING,
    RUNNING,
    SPOOLED,
    TOLD,
    Model,
    State,
)


def broken(m: Model, d: State) -> str | None:
    """The promise that this state breaks, in words."""
    return _charged_once(m, d) or _covered(m, d) or _at_rest(m, d)


def at_rest(m: Model, d: State) -> bool:
    """Nothing is under way, every worker is joined, every record is cut."""
    under_way = d["delayed"] or d["loads"] or d["list"] or d["increment"] or d["batches"] or any(d["joining"])
    if under_way or not d["open"] or d["strangers"] or d["refund"] in (PENDING, DENIED):
        return False
    if any(stage not in (IDLE, TOLD, OVER) for stage in d["stage"]):
        return False
    if any(own is None or d["adopted"][worker] != d["epoch"] for worker, own in enumerate(d["own"])):
        return False
    if any(d["lost"] >> spool & 1 and d["registered"][spool] == OPEN for spool in m.spools):
        return False
    return not any(m.uncut(d, spool) for spool in m.spools)


def _charged_once(m: Model, d: State) -> str | None:
    for call in m.calls:
        if d["generations"][call] > 1 or d["posted"][call] > 1:
            return f"I1: call {call} is charged twice in PostgreSQL"
        if d["stage"][call] in (SPOOLED, TOLD) and not d["generations"][call]:
            spool = d["spool_of"][call]
            cut = d["records"][spool].index(call) < d["cut"][spool]
            if cut and d["own"][d["slot"][spool]] != spool:
                return f"I1: call {call} was delivered and can never be charged"
    return None


def _covered(m: Model, d: State) -> str | None:
    owed = running = excess = stated = 0
    for call in m.calls:
        stage = d["stage"][call]
        if stage in (SPOOLED, TOLD, EARLY) or d["generations"][call]:
            owed += d["cost"][call]
        if stage in (RUNNING, GROWING):
            running += d["may_spend"][call]
        if d["excess"] >> call & 1 and not _is_told(m, d, call):
            excess += d["may_spend"][call]
        if d["stated"] >> call & 1:
            stated += d["may_spend"][call]
    funds = d["credits"] + (m.world.refund if d["refund"] in (PENDING, DENIED) else 0)
    if owed + running > funds + stated:
        return f"I3: {owed} owed and {running} running, of {funds} funds and {stated} stated"
    if d["credit"] is not None and _is_used(m, d):
        believed, true = scripts.spendable(d), funds - owed - running
        if believed > true + excess:
            return f"I3: the gate believes {believed} spendable, true are {true} and {excess} stated"
    return None


def _is_told(m: Model, d: State, call: int) -> bool:
    """Does a total of the gate cover the call's charge?"""
    spool = d["spool_of"][call]
    if d["stage"][call] not in (SPOOLED, TOLD):
        return False
    return (d["totals"][spool] or 0) >= m.total_at(d, spool, d["records"][spool].index(call))


def _is_used(m: Model, d: State) -> bool:
    """Is there a worker that this wallet admits for?"""
    return any(
        d["own"][worker] is not None
        and d["adopted"][worker]
        and not d["strangers"] >> worker & 1
        and (d["adopted"][worker] == d["loaded_in"] or not m.on["wallet_epoch"])
        for worker in m.workers
    )


def _at_rest(m: Model, d: State) -> str | None:
    if not at_rest(m, d):
        return None
    for call in m.calls:
        if d["stage"][call] == TOLD and d["generations"][call] != 1:
            return f"I1: call {call} is settled and not charged"
    after = d.copy()
    if scripts.ticket(m, after) is None:
        return None
    listed = sum(1 << spool for spool, total in enumerate(after["totals"]) if total is not None)
    scripts.load(m, after, ("read", after["epoch"], listed, m.snapshot(after)))
    after["holds"] = (0,) * len(m.calls)
    if scripts.spendable(after) != m.balance(d):
        return f"I2: at rest the gate has {scripts.spendable(after)}, PostgreSQL {m.balance(d)}"
    return None
