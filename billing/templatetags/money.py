"""`{% load money %}`: amounts with every digit they have, and durations."""

from __future__ import annotations

from django import template

from billing.money import show_usd

register = template.Library()

register.filter("usd", show_usd)


@register.filter
def duration(milliseconds: int) -> str:
    """`85 ms`, `1.42 s`, `2 min 5 s`."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds // 1000}.{milliseconds % 1000 // 10:02d} s"
    return f"{milliseconds // 60_000} min {milliseconds % 60_000 // 1000} s"
