"""`{% load page %}`: icons, fields and links of the navigation."""

from __future__ import annotations

import functools
import html
import re
from typing import Any

from django import template
from django.conf import settings
from django.forms import BoundField, CheckboxInput, RadioSelect, Select
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from aggregator.lib.cursors import Listed
from aggregator.lib.graphs import Axes, Bars, Hit, Lines, Piece

register = template.Library()

_NAME = re.compile(r"[a-z0-9-]+")


@register.simple_tag
def icon(name: str, classes: str = "") -> SafeString:
    """A Tabler icon as inline SVG. It is decoration: a word beside it, or a label, carries the meaning."""
    return format_html(
        '<svg xmlns="http://www.w3.org/2000/svg" class="icon {}" width="24" height="24" viewBox="0 0 24 24" '
        'fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" '
        'aria-hidden="true" focusable="false">{}</svg>',
        classes,
        _paths(name),
    )


@register.filter
def stacked(graph: Bars) -> SafeString:
    """The bars of a graph, each slot's beneath what one points at. A template takes ten times as long."""
    name = html.escape(graph.axes.id)
    drawn = []
    for stack in graph.stacks:
        for piece in stack.pieces:
            look = f'fill="url(#{name}-{piece.look})"' if piece.look else 'class="fl-fill fl-look-0"'
            drawn.append(_rect(look, piece))
        if stack.before:
            drawn.append(_rect('class="fl-before"', stack.before))
        drawn.append(_hit(stack.hit, graph.axes))
    return mark_safe("".join(drawn))  # noqa: S308 - numbers of ours, and words escaped


@register.filter
def marked(graph: Lines) -> SafeString:
    """The markers of a graph's lines, and what tells its values to whoever points at it, likewise."""
    drawn: list[str] = [
        marker(line.look, f"{spot.x}%", spot.y) for line in graph.lines for spot in line.spots
    ]
    drawn += [_hit(hit, graph.axes) for hit in graph.hits]
    return mark_safe("".join(drawn))  # noqa: S308 - numbers of ours, and words escaped


_MARKERS = (
    '<circle class="fl-fill" r="3.5"></circle>',
    '<rect class="fl-fill" x="-3.5" y="-3.5" width="7" height="7"></rect>',
    '<path class="fl-fill" d="M0-4.5L4.5 3.5h-9z"></path>',
    '<path class="fl-fill" d="M0-5L5 0 0 5-5 0z"></path>',
    '<path class="fl-stroke" d="M-3.5-3.5l7 7m0-7l-7 7"></path>',
    '<path class="fl-stroke" d="M-4.5 0h9M0-4.5v9"></path>',
)


@register.simple_tag
def marker(look: int, x: str, y: str) -> SafeString:
    """What tells a line from others besides its colour, at a place of its own."""
    shape = _MARKERS[min(look, len(_MARKERS) - 1)]
    return mark_safe(f'<svg class="overflow-visible fl-look-{look}" x="{x}" y="{y}">{shape}</svg>')  # noqa: S308


def _hit(hit: Hit, axes: Axes) -> str:
    return (
        f'<rect class="fl-graph-hit" x="{hit.x}%" y="0" width="{hit.width}%" height="{axes.height}">'
        f"<title>{html.escape(hit.words)}</title></rect>"
    )


def _rect(look: str, piece: Piece) -> str:
    return f'<rect {look} x="{piece.x}%" y="{piece.y}" width="{piece.width}%" height="{piece.height}"></rect>'


@register.filter
def graph_rows(axes: Axes) -> SafeString:
    """The rows of a graph's table, likewise."""
    drawn = []
    for row in axes.rows:
        words: str = html.escape(row.slot.words)
        if row.slot.href:
            words = f'<a href="{html.escape(row.slot.href)}">{words}</a>'
        cells = (f'<td class="text-end text-nowrap fl-figure">{html.escape(cell)}</td>' for cell in row.cells)
        drawn.append(f'<tr><th scope="row" class="fw-normal text-nowrap">{words}</th>{"".join(cells)}</tr>')
    return mark_safe("".join(drawn))  # noqa: S308 - each text is escaped


@register.inclusion_tag("_parts/nav_link.html", takes_context=True)
def nav_link(context: dict[str, Any], target: str, icon_name: str, label: str) -> dict[str, Any]:
    """A link of the navigation, marked when the page lies under it; nothing while it leads nowhere."""
    try:
        url = reverse(target)
    except NoReverseMatch:
        return {"url": None}
    request = context.get("request")
    path = request.path if request else ""
    return {"url": url, "icon_name": icon_name, "label": label, "active": f"{path}/".startswith(f"{url}/")}


@register.inclusion_tag("_parts/side_link.html", takes_context=True)
def side_link(context: dict[str, Any], target: str, icon_name: str, label: str) -> dict[str, Any]:
    """A link beside the page, marked when it leads to this page; nothing while it leads nowhere."""
    try:
        url = reverse(target)
    except NoReverseMatch:
        return {"url": None}
    path = getattr(context.get("request"), "path", "")
    active = path == url or (url.endswith("/") and path.startswith(url))
    return {"url": url, "icon_name": icon_name, "label": label, "active": active}


@register.simple_tag
def foot_link(target: str, label: str) -> SafeString:
    """A link of the foot of a page; nothing while it leads nowhere."""
    try:
        url = reverse(target)
    except NoReverseMatch:
        return mark_safe("")
    return format_html(
        '<li class="list-inline-item"><a class="link-secondary" href="{}">{}</a></li>', url, label
    )


@register.inclusion_tag("_parts/field.html")
def field(bound: BoundField, label: str = "", help_text: str = "") -> dict[str, Any]:
    """A form field with its label, help and errors, tied together for screen readers."""
    widget = bound.field.widget
    kind, classes = "", "form-control"
    if isinstance(widget, CheckboxInput):
        kind, classes = "check", "form-check-input"
    elif isinstance(widget, RadioSelect):
        kind = "radio"
    elif isinstance(widget, Select):
        classes = "form-select"
    if bound.errors:
        classes += " is-invalid"
    return {
        "bound": bound,
        "label": label or bound.label,
        "help_text": help_text or bound.help_text,
        "starred": bound.field.required and not isinstance(widget, Select),
        "kind": kind,
        "input": "" if kind == "radio" else bound.as_widget(attrs={"class": classes, "placeholder": ""}),
    }


@register.inclusion_tag("_parts/sort.html")
def sort(listed: Listed[Any], name: str, label: str, classes: str = "") -> dict[str, Any]:
    """The head of a column by which a list may be ordered; following it again turns the order round."""
    current = listed.sort.removeprefix("-") == name
    down = listed.sort.startswith("-")
    return {
        "label": label,
        "classes": classes,
        "direction": ("descending" if down else "ascending") if current else "",
        "query": listed.query(f"-{name}" if current and not down else name),
    }


@functools.cache
def _paths(name: str) -> SafeString:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of an icon")
    source = settings.NODE_MODULES / "@tabler" / "icons" / "icons" / "outline" / f"{name}.svg"
    svg = source.read_text(encoding="utf-8")
    return mark_safe(svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")].strip())  # noqa: S308
