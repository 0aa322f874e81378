"""What the gate's scripts must do, in a few lines each. They change the state that they are given."""

from __future__ import annotations

from typing import Any

from tests.billing.protocol.state import Model, State, put

NO_EPOCH = {"epoch": 0, "open": 0, "joined": 0, "marked": 0}


def empty_wallet(m: Model) -> dict[str, Any]:
    return {
        "credit": None,
        "loaded_in": 0,
        "written_in": 0,
        "totals": (None,) * len(m.spools),
        "holds": (0,) * len(m.calls),
    }


def spendable(d: State) -> int:
    return d["credit"] - sum(total for total in d["totals"] if total) - sum(d["holds"])


def raise_total(m: Model, d: State, spool: int, total: int) -> None:
    heard = d["totals"][spool]
    if heard is not None and m.on["raise_max"]:
        total = max(heard, total)
    d["totals"] = put(d["totals"], spool, total)


def cover(m: Model, d: State, epoch: int, call: int, amount: int) -> str:
    if d["credit"] is None or (d["loaded_in"] != epoch and m.on["wallet_epoch"]):
        return "missing"
    more = amount - d["holds"][call]
    if more > 0 and spendable(d) < more:
        return "no"
    top = max(d["holds"][call], amount) if m.on["cover_max"] else amount
    d["holds"] = put(d["holds"], call, top)
    return "ok"


def settle(m: Model, d: State, spool: int, total: int, call: int) -> None:
    if d["holds"][call] or m.on["charge_voided"]:
        if m.on["total"]:
            raise_total(m, d, spool, total)
        else:
            d["totals"] = put(d["totals"], spool, (d["totals"][spool] or 0) + d["cost"][call])
    d["holds"] = put(d["holds"], call, 0)


def join(m: Model, d: State, message: tuple[Any, ...]) -> str:
    """`message`: epoch, bits of the spools joined for, (spool, total)…, (call, amount)…"""
    epoch, spools, totals, holds = message
    if epoch != d["epoch"]:
        return "stale"
    if (totals or holds) and _vanished(m, d):
        return "evicted"
    for spool, total in totals:
        raise_total(m, d, spool, total)
    for call, amount in holds:
        if not d["open"]:
            d["holds"] = put(d["holds"], call, max(d["holds"][call], amount))
        elif cover(m, d, epoch, call, amount) == "ok":
            d["excess"] &= ~(1 << call)
    if totals or holds:
        d.update(written_in=epoch, marked=1)
    d["joined"] |= spools
    return "ok"


def ticket(m: Model, d: State) -> int | None:
    """Bits of the spools whose totals the wallet holds; None when there is no ticket to be had."""
    if not d["epoch"] or (not d["open"] and m.on["ticket_open"]):
        return None
    if _vanished(m, d):
        return None
    if m.on["ticket"]:  # every older ticket is void, and its load with it
        d["loads"] = tuple(load for load in d["loads"] if load[0] == "early")
    return sum(1 << spool for spool, total in enumerate(d["totals"]) if total is not None)


def load(m: Model, d: State, under_way: tuple[Any, ...], *, forget: bool = False) -> str:
    """`under_way`: "read", epoch, listed spools, snapshot."""
    _, epoch, listed, (credit, tallies, closed, _) = under_way
    for spool, tally in enumerate(tallies):
        gone = closed >> spool & listed >> spool & 1 and m.on["load_drops"]
        if gone or (tally is None and not m.on["drop_listed"]):
            d["totals"] = put(d["totals"], spool, None)
        elif tally or (tally is not None and d["totals"][spool] is not None):
            raise_total(m, d, spool, tally)
    if m.on["load_whole"] or not forget:
        d.update(credit=credit, loaded_in=epoch, written_in=epoch, marked=1)
    if not forget:
        return "ok"
    ahead = any(
        total is not None and total != tally for total, tally in zip(d["totals"], tallies, strict=True)
    )
    if any(d["holds"]) or (ahead and m.on["forget_flushed"]):
        return "no"
    d.update(empty_wallet(m), marked=0)
    return "forgotten"


def _vanished(m: Model, d: State) -> bool:
    """The epoch says that the wallet was written in it, the wallet does not know: it was lost."""
    if m.on["loaded_mark"] and d["marked"] and d["written_in"] != d["epoch"]:
        d.update(NO_EPOCH)
        return True
    return False
