"""What the probes of an endpoint say together: down and up again only after several in a row. Pure."""

from __future__ import annotations

import zlib

import msgspec

THIN = 3
"""Fewer attempts of our own in five minutes say too little: then the endpoint is probed."""
FAILURES_TO_FALL = 3
FALL_SECONDS = 10.0
"""The failures of a fall span at least this long."""
SUCCESSES_TO_RISE = 2
SUSPECT_SECONDS = 6.0
"""An endpoint whose last probe failed, or that is down, is probed again so soon."""
OLD_SECONDS = 900.0
"""What was last probed so long ago is not known any more."""


class Health(msgspec.Struct, frozen=True):
    healthy: bool | None = None
    row: int = 0
    """So many probes in a row worked, or failed where it is negative."""
    since: float = 0.0
    """Unix seconds, when that row began."""
    at: float = 0.0
    """Unix seconds of the last probe."""

    def is_due(self, slug: str, *, now: float, every: float) -> bool:
        """Whether to probe again: `every` so many seconds give or take a quarter, so that turns spread."""
        wait = SUSPECT_SECONDS if self.row < 0 or self.healthy is False else every
        chance = zlib.crc32(f"{slug} {self.at}".encode()) / 2**32
        return now - self.at >= wait * (0.75 + chance / 2)

    def after(self, worked: bool | None, now: float) -> Health:
        """Once another probe worked or failed; None is one that says nothing, as a limit of rates does."""
        if worked is None:
            return msgspec.structs.replace(self, at=now)
        goes_on = self.row > 0 if worked else self.row < 0
        row = self.row if goes_on else 0
        since = self.since if goes_on else now
        row += 1 if worked else -1
        healthy = self.healthy
        if worked and (healthy is not False or row >= SUCCESSES_TO_RISE):
            healthy = True
        elif not worked and -row >= FAILURES_TO_FALL and now - since >= FALL_SECONDS:
            healthy = False
        return Health(healthy, row, since, now)

    def known(self, *, attempts: int, now: float) -> bool | None:
        """What it says beside so many attempts of our own in five minutes: enough of these say more."""
        return None if attempts >= THIN or now - self.at > OLD_SECONDS else self.healthy
