"""`{% load money %}`: amounts with every digit they have, and durations."""

from __future__ import annotations

import html
import re

from django import template
from django.utils.safestring import SafeString, mark_safe

from aggregator.lib.numbers import brief
from billing.core.money import Nanos, brief_usd, nanos_of_cents, show_usd
from billing.documents.layout import Model
from billing.documents.words import dollars, month_name
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
    return mark_safe(_exact(amount))  # noqa: S308 - escaped


def _exact(amount: str) -> str:
    found = _CENTS.fullmatch(amount)
    if found is None or not found[2]:
        return html.escape(amount)
    return f'{html.escape(found[1])}<span class="text-secondary">{html.escape(found[2])}</span>'


@register.filter
def document_lines(model: Model) -> SafeString:
    """The lines of a document's model, each with its items. A template takes some times as long."""
    drawn = []
    for line in model.lines:
        note = f' <span class="text-secondary fw-normal">{html.escape(line.note)}</span>' if line.note else ""
        drawn.append(
            '<tbody><tr><th scope="rowgroup" colspan="3" class="text-break pt-3">'
            f'{html.escape(line.says)}{note}</th><td data-label="Together, USD" class="fl-wide text-end '
            f'fl-figure fw-bold pt-3">{_exact(line.amount)}</td></tr>'
        )
        for item in line.items:
            drawn.append(
                f'<tr><td class="fl-wide ps-4">{html.escape(item.says)}</td>'
                f"{_figure('Units', item.units)}{_figure('Unit price', item.unit_price)}"
                f'<td data-label="USD" class="text-end fl-figure">{_exact(item.amount)}</td></tr>'
            )
        drawn.append("</tbody>")
    return mark_safe("".join(drawn))  # noqa: S308 - each text is escaped


def _figure(label: str, text: str) -> str:
    """A cell that a narrow screen leaves out where nothing is in it."""
    hidden = "" if text else " d-none d-md-table-cell"
    return f'<td data-label="{label}" class="text-end fl-figure{hidden}">{html.escape(text)}</td>'


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
