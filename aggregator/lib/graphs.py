"""Graphs as geometry: stacked bars, lines and rows of days, drawn by `templates/_parts/graph_*.html`. Pure.

Along x in per cent of the width, along y in pixels: a graph is as wide as its place and nothing written is
stretched. Coordinates are texts that SVG takes. Who draws says how a value is shown; no words of ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple

HEIGHT = 160
"""Of what is drawn in, in pixels; the labels of the x axis lie below."""
CELL_HEIGHT = 32
MOST_SERIES = 6
"""As many markers there are to tell series apart; fold the rest into one."""
MOST_STACKED = 9
"""As many patterns there are."""

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_BAR = 0.7
"""How much of a slot its bar takes."""
_LABELS = 7
_SPOTS = 16
"""Beyond about so many points of a line only some have a marker."""
_LEAST = 1.5
"""What is not nothing is seen."""

GOOD, DEGRADED, BAD, NONE = "good", "degraded", "bad", "none"
_CELL = {GOOD: 1.0, DEGRADED: 0.7, BAD: 0.4, NONE: 0.1}
"""How high a cell stands: the state is told by more than a colour."""

Show = Callable[[float], str]
"""A value as a person reads it. Whole numbers come as `int`."""


class Slot(NamedTuple):
    """One place along the x axis."""

    words: str
    short: str
    """For the axis."""
    href: str = ""
    """Where the table leads from it."""


@dataclass(frozen=True, slots=True)
class Series:
    """A value for each slot; None is a gap."""

    name: str
    values: Sequence[float | None]


class Tick(NamedTuple):
    y: str
    label: str


@dataclass(frozen=True, slots=True)
class Label:
    x: str
    text: str
    anchor: str
    wide: bool
    """Only where there is room."""


class Row(NamedTuple):
    slot: Slot
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Axes:
    """What every graph has. `id` is unique on its page; `looks` are (number, name) of the series."""

    id: str
    title: str
    words: str
    """The graph in a sentence."""
    ticks: tuple[Tick, ...]
    """From the bottom up, evenly apart."""
    labels: tuple[Label, ...]
    looks: tuple[tuple[int, str], ...]
    before: str
    """The name of the period before; empty without one."""
    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    height: int = HEIGHT


class Piece(NamedTuple):
    x: str
    y: str
    width: str
    height: str
    look: int


class Hit(NamedTuple):
    """A slot from top to bottom, for whoever points at it."""

    x: str
    width: str
    words: str


class Stack(NamedTuple):
    hit: Hit
    pieces: tuple[Piece, ...]
    before: Piece | None


@dataclass(frozen=True, slots=True)
class Bars:
    axes: Axes
    stacks: tuple[Stack, ...]


class Spot(NamedTuple):
    x: str
    y: str


@dataclass(frozen=True, slots=True)
class Line:
    look: int
    path: str
    """In hundredths of the width and in pixels; empty where no two neighbours have a value."""
    spots: tuple[Spot, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    axes: Axes
    lines: tuple[Line, ...]
    before: Line | None
    hits: tuple[Hit, ...]


class Cell(NamedTuple):
    x: str
    y: str
    width: str
    height: str
    state: str
    words: str


@dataclass(frozen=True, slots=True)
class Uptime:
    axes: Axes
    cells: tuple[Cell, ...]


def bars(
    name: str,
    slots: Sequence[Slot],
    series: Sequence[Series],
    *,
    title: str,
    words: str,
    show: Show,
    tick: Show | None = None,
    before: Series | None = None,
) -> Bars:
    """Series stacked on one another, the first at the bottom; `before` is an outline. Values not negative."""
    _same_length(slots, [*series, *([before] if before else [])], MOST_STACKED)
    sums = [sum(one.values[at] or 0 for one in series) for at in range(len(slots))]
    earlier = [value or 0 for value in before.values] if before else []
    if min([0, *sums, *earlier]) < 0:
        raise ValueError("a bar has no negative height")
    scale = _scale([0, *sums, *earlier], 0, None)
    rows = _rows(slots, series, before, show)
    hits = _hits(rows, series, before)
    slot = 100 / (len(slots) or 1)
    width = _text(slot * _BAR)
    stacks = []
    for at in range(len(slots)):
        x = _text(at * slot + slot * (1 - _BAR) / 2)
        pieces, ground = [], 0.0
        for look, one in enumerate(series):
            value = one.values[at] or 0
            if value:
                y, height = scale.span(ground, ground + value)
                pieces.append(Piece(x, y, width, height, look))
            ground += value
        outline = None
        if before and earlier[at]:
            y, height = scale.span(0, earlier[at])
            outline = Piece(x, y, width, height, 0)
        stacks.append(Stack(hits[at], tuple(pieces), outline))
    axes = _axes(name, rows, series, before, show=show, title=title, words=words, scale=scale, tick=tick)
    return Bars(axes, tuple(stacks))


def lines(
    name: str,
    slots: Sequence[Slot],
    series: Sequence[Series],
    *,
    title: str,
    words: str,
    show: Show,
    tick: Show | None = None,
    before: Series | None = None,
    lowest: float = 0,
    highest: float | None = None,
) -> Lines:
    """Several series over time. The scale reaches at least from `lowest` to `highest`."""
    every = [*series, *([before] if before else [])]
    _same_length(slots, every)
    scale = _scale([value for one in every for value in one.values if value is not None], lowest, highest)
    rows = _rows(slots, series, before, show)
    axes = _axes(name, rows, series, before, show=show, title=title, words=words, scale=scale, tick=tick)
    return Lines(
        axes,
        tuple(_line(one.values, look, scale) for look, one in enumerate(series)),
        _line(before.values, 0, scale) if before else None,
        _hits(rows, series, before),
    )


def uptime(
    name: str,
    days: Sequence[tuple[Slot, str, str]],
    *,
    title: str,
    words: str,
    table: bool = True,
) -> Uptime:
    """A row of cells: (slot, state, what is said of it). `table=False` where a page has one for them all."""
    width = 100 / len(days) if days else 100
    cells = tuple(
        Cell(
            x=_text(at * width + width * (1 - _BAR) / 2),
            y=_text(CELL_HEIGHT * (1 - _CELL[state])),
            width=_text(width * _BAR),
            height=_text(CELL_HEIGHT * _CELL[state]),
            state=state,
            words=f"{slot.words}: {said}",
        )
        for at, (slot, state, said) in enumerate(days)
    )
    rows = tuple(Row(slot, (said,)) for slot, _, said in days) if table else ()
    return Uptime(Axes(name, title, words, (), (), (), "", (title,), rows, CELL_HEIGHT), cells)


def days(first: date, count: int) -> tuple[Slot, ...]:
    """So many days from the first."""
    found = [first + timedelta(days=at) for at in range(count)]
    return tuple(Slot(f"{day:%a} {day.day} {day:%b}", f"{day.day} {day:%b}") for day in found)


def hours(first: datetime, count: int) -> tuple[Slot, ...]:
    """So many hours from the one that begins at `first`."""
    found = [first + timedelta(hours=at) for at in range(count)]
    return tuple(Slot(f"{at.day} {at:%b}, {at:%H:%M}", f"{at:%H:%M}") for at in found)


def ticks(most: float, *, lowest: float = 0, whole: bool = False) -> tuple[float, ...]:
    """Round numbers evenly apart, from at most `lowest` to at least `most`: three to six of them.

    `whole` are never closer than one. Where there is nothing to measure, `lowest` alone.
    """
    span = most - lowest
    if not math.isfinite(span) or span <= 0:
        return (lowest,)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(each * power for each in _STEPS if each * power * 4 >= span * (1 - 1e-9))
    if whole:
        step = max(1.0, step) if step != 2.5 else 5.0
    start = math.floor(lowest / step + 1e-9)
    end = max(start + 1, math.ceil(most / step - 1e-9))
    found = [float(f"{at * step:.12g}") for at in range(start, end + 1)]
    return tuple(int(each) if whole else each for each in found)


@dataclass(frozen=True, slots=True)
class _Scale:
    ticks: tuple[float, ...]

    def y(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        share = (value - low) / (high - low) if high > low else 0.0
        return HEIGHT * (1 - min(max(share, 0.0), 1.0))

    def span(self, bottom: float, top: float) -> tuple[str, str]:
        """Where a piece begins, and how high it is: what is not nothing is seen."""
        ground = self.y(bottom)
        height = max(ground - self.y(top), _LEAST)
        return _text(max(ground - height, 0)), _text(height)


def _scale(values: Sequence[float], lowest: float, highest: float | None) -> _Scale:
    ends = [lowest, *([highest] if highest is not None else [])]
    whole = all(isinstance(value, int) for value in (*values, *ends))
    low = min([lowest, *values])
    return _Scale(ticks(max([*values, *ends]), lowest=low, whole=whole))


def _rows(
    slots: Sequence[Slot], series: Sequence[Series], before: Series | None, show: Show
) -> tuple[Row, ...]:
    """What is said of each slot, in the table and to whoever points at it."""
    every = [one.values for one in (*series, *([before] if before else []))]
    return tuple(
        Row(slot, tuple(_said(values[at], show) for values in every)) for at, slot in enumerate(slots)
    )


def _axes(
    name: str,
    rows: tuple[Row, ...],
    series: Sequence[Series],
    before: Series | None,
    *,
    show: Show,
    title: str,
    words: str,
    scale: _Scale,
    tick: Show | None,
) -> Axes:
    every = [*series, *([before] if before else [])]
    return Axes(
        id=name,
        title=title,
        words=words,
        ticks=tuple(Tick(_text(scale.y(value)), (tick or show)(value)) for value in scale.ticks),
        labels=_labels([row.slot for row in rows]),
        looks=tuple((look, one.name) for look, one in enumerate(series)),
        before=before.name if before else "",
        heads=tuple(one.name for one in every),
        rows=rows,
    )


def _labels(slots: Sequence[Slot]) -> tuple[Label, ...]:
    """Of the last slot, and of some before it; every second of them only where there is room."""
    step = max(1, math.ceil(len(slots) / _LABELS))
    found = []
    for number, at in enumerate(range(len(slots) - 1, -1, -step)):
        centre = 100 * (at + 0.5) / len(slots)
        anchor = "end" if at == len(slots) - 1 and len(slots) > _LABELS else "middle"
        x = 100.0 if anchor == "end" else centre
        found.append(Label(_text(x), slots[at].short, anchor, wide=number % 2 == 1 and len(slots) > 2))
    return tuple(reversed(found))


def _line(values: Sequence[float | None], look: int, scale: _Scale) -> Line:
    count = len(values)
    every = max(1, round(count / _SPOTS))
    path, spots = [], []
    for at, value in enumerate(values):
        if value is None:
            continue
        x, y = _text(100 * (at + 0.5) / count), _text(scale.y(value))
        follows = at > 0 and values[at - 1] is not None
        goes_on = at + 1 < count and values[at + 1] is not None
        if follows or goes_on:
            path.append(f"{'L' if follows else 'M'}{x} {y}")
        if at % every == 0 or not (follows or goes_on):
            spots.append(Spot(x, y))
    return Line(look, "".join(path), tuple(spots))


def _hits(rows: Sequence[Row], series: Sequence[Series], before: Series | None) -> tuple[Hit, ...]:
    names = [one.name for one in (*series, *([before] if before else []))]
    slot = 100 / (len(rows) or 1)
    width = _text(slot)
    found = []
    for at, row in enumerate(rows):
        told = ", ".join(f"{name} {said}" for name, said in zip(names, row.cells, strict=True))
        found.append(Hit(_text(at * slot), width, f"{row.slot.words}: {told}"))
    return tuple(found)


def _said(value: float | None, show: Show) -> str:
    return "–" if value is None else show(value)


def _same_length(slots: Sequence[Slot], series: Sequence[Series], most: int = MOST_SERIES) -> None:
    if len(series) > most + 1:
        raise ValueError(f"{len(series)} series cannot be told apart; {most} can")
    for one in series:
        if len(one.values) != len(slots):
            raise ValueError(f"{one.name} has {len(one.values)} values for {len(slots)} slots")


def _text(value: float) -> str:
    return f"{value:.2f}"
