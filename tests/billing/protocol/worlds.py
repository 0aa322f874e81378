"""Small worlds for the model: who calls what, with how much credit, and which faults may happen how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tests.billing.protocol.rules import RULES


class Call(NamedTuple):
    """A call of the worker in `slot`: what it holds first, may grow to, and truly costs."""

    slot: int
    first: int
    full: int
    cost: int


TWO = (Call(0, 4, 4, 3), Call(1, 4, 4, 4))
SAME = (Call(0, 4, 4, 3), Call(0, 4, 4, 4))
GROWING = (Call(0, 2, 4, 3), Call(1, 4, 4, 4))
THREE = (*TWO, Call(0, 4, 4, 4))
MIXED = (Call(0, 2, 4, 4), Call(1, 4, 4, 3), Call(0, 3, 3, 3), Call(1, 2, 5, 5))
EIGHT = (
    *(Call(0, 2, 4, 4), Call(1, 4, 4, 3), Call(2, 4, 4, 4), Call(0, 4, 4, 1)),
    *(Call(1, 2, 6, 5), Call(2, 3, 3, 3), Call(0, 4, 4, 2), Call(1, 4, 4, 4)),
)


@dataclass(frozen=True, kw_only=True)
class World:
    """Amounts are units of money; the rest counts how often a thing may happen."""

    calls: tuple[Call, ...] = TWO
    credit: int = 7
    topup: int = 0
    refund: int = 0
    slots: int = 2
    kills: int = 0
    exits: int = 0
    """Workers that stop in order, with their spool cut and closed."""
    restarts: int = 0
    """The gate restarts empty."""
    old_files: int = 0
    """The gate restarts with an older state of itself."""
    evictions: int = 0
    """One key of the gate vanishes."""
    delays: int = 0
    """Commands with an unknown outcome: done and not answered, or done later."""
    late: int = 0
    """Leases that run out although their call still runs, or is not told yet."""
    graces: int = 0
    """Epochs opened without every spool."""
    lost_disks: int = 0
    forgets: int = 0
    most_loads: int = 1
    loads_any_time: bool = False
    posting: bool = False
    free_endings: bool = False
    without: tuple[str, ...] = ()
    """Rules that are switched off."""

    def __post_init__(self) -> None:
        if unknown := set(self.without) - set(RULES):
            raise ValueError(f"no such rules: {unknown}")


FAULTS = {"kills": 1, "restarts": 1}
EVERY_TIME = {"credit": 4, "topup": 4, "loads_any_time": True}

SHORT = {
    "nothing fails": {"calls": THREE, "credit": 8, "free_endings": True},
    "an empty restart, delays": {"delays": 1, "restarts": 1},
    "a kill, delays": {"delays": 1, "kills": 1},
    "a lost wallet": {"evictions": 1},
    "an old file": {"old_files": 1},
    "a wallet forgotten": {"forgets": 1, "kills": 1},
    "a refund": {"credit": 8, "refund": 4},
}
"""Worlds that are searched whole in seconds."""

LONG = {
    "restarts 2, 3 calls": {"calls": THREE, "credit": 8, "restarts": 2},
    "kill 1, restart 1, 3 calls": dict(calls=THREE, credit=8, **FAULTS),
    "kills 2, restart 1": {"kills": 2, "restarts": 1},
    "kill 1, restarts 2": {"kills": 1, "restarts": 2},
    "kill 1, restart 1, one worker": dict(calls=SAME, **FAULTS),
    "delays 2, kill 1": {"delays": 2, "kills": 1},
    "delays 2, restart 1": {"delays": 2, "restarts": 1},
    "growing, kill 1, restart 1": dict(calls=GROWING, **FAULTS),
    "free endings, kill 1, restart 1": dict(free_endings=True, **FAULTS),
    "top-up, restarts 2, loads at any time": dict(restarts=2, **EVERY_TIME),
    "refund, kill 1, restart 1": dict(credit=8, refund=4, **FAULTS),
    "top-up and refund, restart 1, delay 1": {
        "credit": 5,
        "topup": 3,
        "refund": 4,
        "restarts": 1,
        "delays": 1,
    },
    "posting, kill 1, restart 1": dict(posting=True, **FAULTS),
    "exit 1, kill 1, restart 1": dict(exits=1, **FAULTS),
    "evictions 2": {"evictions": 2},
    "eviction 1, kill 1": {"evictions": 1, "kills": 1},
    "eviction 1, restart 1, delay 1": {"evictions": 1, "restarts": 1, "delays": 1},
    "old file 1, kill 1": {"old_files": 1, "kills": 1},
    "forgets 2, kill 1, delay 1": {"forgets": 2, "kills": 1, "delays": 1},
    "forget 1, restart 1": {"forgets": 1, "restarts": 1},
    "late 2, delay 1, restart 1": {"late": 2, "delays": 1, "restarts": 1},
    "late 1, kill 1, restart 1": dict(late=1, **FAULTS),
    "grace 1, kill 1, restart 1": dict(graces=1, **FAULTS),
    "grace 1, late 1, kill 1, restart 1": dict(graces=1, late=1, **FAULTS),
    "grace 1, eviction 1, delay 1": {"graces": 1, "evictions": 1, "delays": 1},
    "lost disk 1, restart 1": {"kills": 1, "lost_disks": 1, "restarts": 1},
}

LARGE = {
    "calls": EIGHT,
    "slots": 3,
    "credit": 12,
    "topup": 5,
    "refund": 4,
    "kills": 3,
    "exits": 1,
    "restarts": 3,
    "old_files": 1,
    "evictions": 1,
    "delays": 4,
    "forgets": 1,
    "most_loads": 3,
    "loads_any_time": True,
    "posting": True,
    "free_endings": True,
}
"""For random walks: too large to be searched."""

MISSED_IN = {
    "ticket": dict(restarts=1, most_loads=2, **EVERY_TIME),
    "one_snapshot": {"posting": True, "restarts": 1},
    "load_drops": {"kills": 1},
    "drop_listed": {"kills": 1},
    "load_whole": {"forgets": 1, "kills": 1},
    "charge_voided": {"late": 1, "delays": 1},
    "cover_max": {"calls": GROWING, "credit": 8, "delays": 1},
    "wallet_epoch": {"old_files": 1},
    "list_fresh": {"exits": 1, "restarts": 1},
    "list_orphans": dict(**FAULTS),
    "register_first": {"kills": 1},
    "join_first": {"evictions": 2},
    "takeover_joins": dict(**FAULTS),
    "cut_after_redis": {"kills": 1},
    "tally_max": {"calls": SAME, "delays": 1},
    "fresh_spool": dict(**FAULTS),
    "close_last": {"kills": 1},
    "topup_load": dict(most_loads=2, **EVERY_TIME),
    "refund_confirm": {"credit": 8, "refund": 4},
    "post_once": {"posting": True, "restarts": 1},
    "loaded_mark": {"evictions": 1},
    "forget_flushed": {"forgets": 1, "most_loads": 2},
    "handshake": {"old_files": 1},
}
"""The smallest world in which a rule that is switched off is missed; else one empty restart is enough."""
