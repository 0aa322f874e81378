"""The words and figures of documents: months, amounts, kinds of tokens, states of payment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

TITLES: Final = {"statement": "Statement", "invoice": "Invoice", "credit_note": "Credit note"}
KINDS: Final = {
    "input": "Prompt tokens",
    "cache_read": "Prompt tokens read from a cache",
    "cache_write_5m": "Prompt tokens written to a cache, 5 min",
    "cache_write_1h": "Prompt tokens written to a cache, 1 h",
    "image": "Prompt tokens of images",
    "audio": "Prompt tokens of audio",
    "output": "Completion tokens",
    "reasoning": "Reasoning tokens",
    "image_output": "Completion tokens of images",
    "audio_output": "Completion tokens of audio",
    "request": "Requests",
}
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_LINES: Final = {
    "capped": "charged up to what was reserved",
    "free": "free of charge",
}


def money(amount: Decimal | str) -> str:
    """`1234.5` → `1,234.50`, `-0.0000012` → `−0.0000012`: no digit is lost, cents are always there."""
    value = Decimal(amount)
    whole_part, _, rest = format(abs(value), ",f").partition(".")
    sign = "\u2212" if value < 0 else ""
    return f"{sign}{whole_part}.{rest.rstrip('0').ljust(2, '0')}"


def dollars(amount: Decimal | str) -> str:
    """`$1,234.50`."""
    text = money(amount)
    return f"\u2212${text[1:]}" if text.startswith("\u2212") else f"${text}"


def calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"


def percent(share: str) -> str:
    """`0.05` → `5`, `0.055` → `5.5`."""
    value = Decimal(share) * 100
    return format(value.normalize(), "f")


def day(instant: str) -> str:
    at = datetime.fromisoformat(instant)
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}"


def month_name(month: str) -> str:
    """`2026-11` → `November 2026`."""
    year, _, number = month.partition("-")
    return f"{_MONTHS[int(number) - 1]} {year}"


def period(since: str, until: str) -> str:
    """The days of it; `until` is the first instant after the last of them."""
    begins, ends = datetime.fromisoformat(since), datetime.fromisoformat(until) - timedelta(microseconds=1)
    if (begins.year, begins.month) == (ends.year, ends.month):
        return f"{begins.day} – {day(ends.isoformat())}"
    return f"{day(begins.isoformat())} – {day(ends.isoformat())}"


def movement(moved: Mapping[str, Any]) -> str:
    """What else there is to say of a payment or a grant."""
    notes = []
    if Decimal(moved.get("tax") or 0):
        notes.append(f"and tax of {money(moved['tax'])}")
    if moved.get("expires_at"):
        notes.append(f"until {day(moved['expires_at'])}")
    return ", ".join(notes)


def rebate(share: Mapping[str, Any]) -> str:
    """One stretch of a month in which the terms stood still, or usage of an earlier month."""
    if "used_in" in share:
        return f"Usage of {month_name(share['used_in'])}, {dollars(share['usage'])}"
    above = f" above {dollars(share['threshold'])}" if Decimal(share["threshold"]) else ""
    on = "the providers’ prices" if share["basis"] == "base" else "usage"
    when = period(share["from"], share["until"])
    return f"{percent(share['rate'])} % of {on}{above}; {dollars(share['usage'])} in {when}"


def unit_price(item: Mapping[str, Any]) -> str:
    if item["unit_price"] is None:
        return ""
    return money(item["unit_price"]) + (" each" if item["kind"] == "request" else "")


def title(content: Mapping[str, Any]) -> str:
    if content["number"] is None:
        return "Running statement"
    return TITLES[content["kind"]]


def of_line(line: Mapping[str, Any]) -> list[str]:
    """What is out of the ordinary about a line of usage."""
    found = []
    if line.get("used_in"):
        found.append(f"of {month_name(line['used_in'])}, posted late")
    if line["kind"] in _LINES:
        found.append(_LINES[line["kind"]])
    if line.get("window"):
        found.append("price of certain hours")
    if line.get("tier"):
        found.append("price of long prompts")
    return found
