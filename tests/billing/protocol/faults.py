"""Steps of the network and of the gate's server: late commands, lost keys, restarts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.billing.protocol import scripts
from tests.billing.protocol.state import Model, State, Step, but, put, without

SAVED = (
    *("epoch", "open", "joined", "marked"),
    *("credit", "loaded_in", "written_in", "totals", "holds"),
)
"""What a file of the gate's server holds."""


def steps(m: Model, d: State) -> Iterator[Step]:
    for message in dict.fromkeys(d["delayed"]):
        after = but(d, delayed=tuple(without(d["delayed"], message)))
        yield Step(message, after, _arrive(m, after, message))
    lost: dict[str, Any] = scripts.empty_wallet(m)
    if m.on["ticket"]:
        lost["loads"] = tuple(load for load in d["loads"] if load[0] == "early")
    if d["restarts"]:
        after = but(d, **scripts.NO_EPOCH, restarts=d["restarts"] - 1, **lost)
        yield Step(("restart empty",), after, fault=True)
    if d["evictions"]:
        left = d["evictions"] - 1
        yield Step(("lose the wallet",), but(d, evictions=left, **lost), fault=True)
        if d["epoch"]:
            yield Step(("lose the epoch",), but(d, evictions=left, **scripts.NO_EPOCH), fault=True)
    if d["old_files"]:
        yield _file(m, d)


def _arrive(m: Model, d: State, message: tuple[Any, ...]) -> Any:
    verb, *subjects = message
    if verb in ("admit", "cover"):
        epoch, call, amount = subjects
        return scripts.cover(m, d, epoch, call, amount)
    if verb == "join":
        return scripts.join(m, d, tuple(subjects))
    if verb == "settle":
        spool, total, call = subjects
        return scripts.settle(m, d, spool, total, call)
    spool, calls, total = subjects
    d["generations"] = tuple(1 if call in calls else n for call, n in enumerate(d["generations"]))
    d["tallies"] = put(d["tallies"], spool, max(d["tallies"][spool], total))
    return None


def _file(m: Model, d: State) -> Step:
    if d["file"] is None:
        return Step(("write a file",), but(d, file=tuple(d[name] for name in SAVED)), fault=True)
    after = but(d, old_files=d["old_files"] - 1, file=None)
    after.update(zip(SAVED, d["file"], strict=True))
    if m.on["handshake"]:
        strangers = sum(1 << worker for worker in m.workers if d["own"][worker] is not None)
        after.update(scripts.NO_EPOCH, strangers=strangers)
    return Step(("restart with the old file",), after, fault=True)
