"""Numbers at a glance, where the exact ones stand beside them. Pure."""

from __future__ import annotations

import math


def brief(number: float) -> str:
    """`1,234`, `12.3k`, `1.23M`."""
    if abs(number) < 10_000:
        return f"{number:,.0f}" if number == int(number) else f"{number:g}"
    power = min(4, int(math.log10(abs(number)) / 3))
    digits = f"{number / 1000**power:.3g}"
    if digits.endswith("e+03"):
        digits, power = "1", min(4, power + 1)
    return digits + " kMBT"[power]


def percent(part: float, whole: float) -> str:
    share = 100 * part / whole if whole else 0
    return f"{share:.1f} %" if 0 < share < 10 else f"{share:.0f} %"
