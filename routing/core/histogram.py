"""Counts in buckets of equal ratio: small, merged by adding, every percentile within RELATIVE_ERROR. Pure.

A histogram is a plain `dict` from a bucket's number to its count, so that it travels as it is; what lies
outside the range counts in the first or the last bucket.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

PER_DOUBLING = 8
RELATIVE_ERROR = 2 ** (0.5 / PER_DOUBLING) - 1
"""4.4 %: a value is told as the geometric middle of its bucket."""
LAST = 20 * PER_DOUBLING
"""Every range spans twenty doublings, so no histogram has more than LAST + 1 entries."""
SECONDS = 0.001
"""Where the range of durations begins: a millisecond. It ends at 1,100 seconds."""
RATE = 0.1
"""Where the range of tokens per second begins. It ends at 110,000."""
OWN = 0.00001
"""Where the range of our own times begins: ten microseconds. It ends at ten seconds."""

Counts = dict[int, int]


def bucket(value: float, least: float) -> int:
    """The number of the bucket that holds a value, in the range that begins at `least`."""
    if value <= least:
        return 0
    return min(int(math.log2(value / least) * PER_DOUBLING), LAST)


def add(counts: Counts, value: float, least: float) -> None:
    at = bucket(value, least)
    counts[at] = counts.get(at, 0) + 1


def merge(into: Counts, more: Mapping[int, int]) -> None:
    if not into:
        into.update(more)
        return
    known = into.get
    for at, count in more.items():
        into[at] = known(at, 0) + count


def merge_weighed(into: dict[int, float], more: Mapping[int, int], weight: float) -> None:
    known = into.get
    for at, count in more.items():
        into[at] = known(at, 0.0) + count * weight


def percentiles(counts: Mapping[int, float], shares: Sequence[float], least: float) -> list[float] | None:
    """For each share, in ascending order, the least value that so much of all values does not exceed.

    None for an empty histogram.
    """
    total = math.fsum(counts.values())
    if not total:
        return None
    found: list[float] = []
    passed = 0.0
    for at in sorted(counts):
        passed += counts[at]
        while len(found) < len(shares) and passed >= shares[len(found)] * total * (1 - 1e-12):
            found.append(_middle(at, least))
    return found + [_middle(max(counts), least)] * (len(shares) - len(found))


def _middle(at: int, least: float) -> float:
    return float(least * 2 ** ((at + 0.5) / PER_DOUBLING))
