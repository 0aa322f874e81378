"""`{% load money %}`: amounts with every digit they have, and durations."""

from __future__ import annotations

from django import template

from aggregator.lib.numbers import brief
from billing.money import Nanos, brief_usd, nanos_of_cents, show_usd
from billing.receipts import percent

register = template.Library()

register.filter("usd", show_usd)
register.filter("brief_usd", brief_usd)
register.filter("percent", percent)
register.filter("brief", brief)


@register.filter
def signed_usd(nanos: Nanos) -> str:
    """`+$20.00`, `−$0.0012`."""
    return f"+{show_usd(nanos)}" if nanos > 0 else show_usd(nanos).replace("-", "\u2212")


@register.filter
def cents(amount: int) -> str:
    """What Stripe calls 1250: `$12.50`."""
    return show_usd(nanos_of_cents(amount))


@register.filter
def words(code: str) -> str:
    """A code of Stripe's as a person would say it: `product_not_received` → `product not received`."""
    return code.replace("_", " ")


@register.filter
def duration(milliseconds: int) -> str:
    """`85 ms`, `1.42 s`, `2 min 5 s`."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds // 1000}.{milliseconds % 1000 // 10:02d} s"
    return f"{milliseconds // 60_000} min {milliseconds % 60_000 // 1000} s"
