"""`{% load money %}`: amounts with every digit they have, and durations."""

from __future__ import annotations

import re

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from aggregator.lib.numbers import brief
from billing.documents.words import dollars, month_name
from billing.money import Nanos, brief_usd, nanos_of_cents, show_usd
from billing.receipts import percent

register = template.Library()

_CENTS = re.compile(r"(.*\.\d\d)(\d*)")

register.filter("usd", show_usd)
register.filter("dollars", dollars)
register.filter("brief_usd", brief_usd)
register.filter("percent", percent)
register.filter("brief", brief)


@register.filter
def signed_usd(nanos: Nanos) -> str:
    """`+$20.00`, `−$0.0012`."""
    return f"+{show_usd(nanos)}" if nanos > 0 else show_usd(nanos).replace("-", "\u2212")


@register.filter
def exact(amount: str) -> SafeString:
    """A document's `55.640940883`, with what is finer than a cent in grey."""
    found = _CENTS.fullmatch(amount)
    if found is None or not found[2]:
        return format_html("{}", amount)
    return format_html('{}<span class="text-secondary">{}</span>', found[1], found[2])


@register.filter
def month_words(month: str) -> str:
    """`2026-11`: `November 2026`."""
    return month_name(month)


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
