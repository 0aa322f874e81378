"""Cost against time of a decision's candidates: where each stands in a small drawing. Pure.

Coordinates are in the drawing's own units, as text that SVG takes. An axis is linear from zero unless the
spread asks for a logarithmic one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from billing.core.money import show_usd

WIDTH, HEIGHT = 360, 212
LEFT, RIGHT, TOP, BOTTOM = 62, 348, 14, 186
"""The frame inside the drawing; what is outside is for the figures on the axes."""
_LOG_FROM = 20
"""From this ratio of the greatest to the least on, an axis is logarithmic."""
_MOST_TICKS = 5
_STEPS = (1, 2, 5, 10)
_APART = 20.0
"""Two marks with something written in them stand at least so far apart."""
_RADIUS = 9.0
_LONGEST_NAME = 26
_LETTER = 6.6
"""How wide a letter of a name is taken to be."""

SERVED, FAILED, RESTING, OTHER = "served", "failed", "resting", "other"


@dataclass(frozen=True, slots=True)
class Point:
    """A candidate to be drawn. `turns` are the attempts that went there, counted from 1."""

    name: str
    cost_nanos: float
    seconds: float
    kind: str
    turns: tuple[int, ...]
    words: str
    """All of it in one line, for whoever points at it."""


@dataclass(frozen=True, slots=True)
class Mark:
    x: str
    y: str
    kind: str
    order: str
    """When it was tried, such as `1`, `1, 3` or `1–3`."""
    words: str
    name: str
    name_x: str
    name_y: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Tick:
    at: str
    label: str
    anchor: str
    """Of the label of a time: one at the frame's end would leave the drawing."""


@dataclass(frozen=True, slots=True)
class Plot:
    marks: tuple[Mark, ...]
    """The one that served comes last, so that it lies on top."""
    hops: tuple[str, ...]
    """Paths from each attempt to the next, where that is another endpoint."""
    costs: tuple[Tick, ...]
    seconds: tuple[Tick, ...]
    logarithmic: str
    """Which axes are: `cost`, `time`, `both`, or empty."""

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(mark.kind for mark in self.marks)


def of(points: Sequence[Point]) -> Plot | None:
    """None for fewer than two: there is nothing to compare."""
    if len(points) < 2:
        return None
    down, costs, cost_log = _axis([p.cost_nanos for p in points], BOTTOM, TOP, label=_dollars, least=1.0)
    along, seconds, time_log = _axis([p.seconds for p in points], LEFT, RIGHT, label=_seconds, least=0.001)
    places: dict[int, tuple[float, float]] = {}
    for number, point in enumerate(points):
        place = along(point.seconds), down(point.cost_nanos)
        places[number] = place if point.kind == OTHER else _free(place, points, places)
    tried = [n for _, n in sorted((turn, n) for n, point in enumerate(points) for turn in point.turns)]
    hops = (_hop(places[a], places[b]) for a, b in itertools.pairwise(tried) if a != b)
    layers = (OTHER, RESTING, FAILED, SERVED)
    drawn = sorted(range(len(points)), key=lambda n: layers.index(points[n].kind))
    axes = {(True, True): "both", (True, False): "cost", (False, True): "time"}
    return Plot(
        marks=tuple(
            _mark(points[n], places[n], [spot for at, spot in places.items() if at != n]) for n in drawn
        ),
        hops=tuple(dict.fromkeys(hops)),
        costs=costs,
        seconds=seconds,
        logarithmic=axes.get((cost_log, time_log), ""),
    )


def _axis(
    values: Sequence[float], start: float, end: float, *, label: Callable[[float], str], least: float
) -> tuple[Callable[[float], float], tuple[Tick, ...], bool]:
    """A scale, its ticks and whether it is logarithmic; `least` stands for a zero that has no logarithm."""
    floored = [max(value, least) for value in values]
    low, high = min(floored), max(floored)
    logarithmic = high / low >= _LOG_FROM
    if logarithmic:
        bottom, top = _bounds(low, high)
        marks = _powers(bottom, top)

        def scale(value: float) -> float:
            return start + (end - start) * math.log(max(value, least) / bottom) / math.log(top / bottom)
    else:
        step = _nice(high / (_MOST_TICKS - 1), least)
        marks = [step * n for n in range(math.ceil(high / step - 1e-9) + 1)]

        def scale(value: float) -> float:
            return start + (end - start) * value / marks[-1]

    return scale, tuple(_tick(scale(mark), label(mark)) for mark in marks), logarithmic


def _tick(at: float, label: str) -> Tick:
    return Tick(_text(at), label, "end" if at > RIGHT - 14 else "middle")


def _bounds(low: float, high: float) -> tuple[float, float]:
    """The round figures just around both."""
    powers = range(math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9) + 1)
    fine = [10.0**power * step for power in powers for step in _STEPS]
    return max(f for f in fine if f <= low * 1.000001), min(f for f in fine if f >= high * 0.999999)


def _powers(bottom: float, top: float) -> list[float]:
    """Powers of ten, few enough to be read; with both ends where there would be fewer than two."""
    first, last = math.ceil(math.log10(bottom) - 1e-9), math.floor(math.log10(top) + 1e-9)
    every = max(1, math.ceil((last - first) / (_MOST_TICKS - 1)))
    powers = [10.0**power for power in range(first, last + 1, every)]
    return powers if len(powers) > 1 else sorted({bottom, *powers, top})


def _nice(step: float, least: float) -> float:
    power = 10.0 ** math.floor(math.log10(max(step, least)))
    return next(power * each for each in _STEPS if power * each >= step * 0.999999)


def _free(
    place: tuple[float, float], points: Sequence[Point], taken: dict[int, tuple[float, float]]
) -> tuple[float, float]:
    """The place, or one beside it where it would hide another mark that says something."""
    x, y = place
    step = _APART if x < (LEFT + RIGHT) / 2 else -_APART
    others = [spot for number, spot in taken.items() if points[number].kind != OTHER]
    while any(math.dist((x, y), other) < _APART * 0.9 for other in others):
        x += step
    return x, y


def _mark(point: Point, place: tuple[float, float], others: Sequence[tuple[float, float]]) -> Mark:
    name = point.name if point.kind == SERVED else ""
    if len(name) > _LONGEST_NAME:
        name = name[: _LONGEST_NAME - 1] + "…"
    x, y, anchor = _beside(place, len(name) * _LETTER, others)
    return Mark(
        x=_text(place[0]),
        y=_text(place[1]),
        kind=point.kind,
        order=_order(point.turns),
        words=point.words,
        name=name,
        name_x=_text(x),
        name_y=_text(y),
        anchor=anchor,
    )


def _order(turns: Sequence[int]) -> str:
    """Short enough for a mark."""
    if len(turns) > 2 and turns[-1] - turns[0] == len(turns) - 1:
        return f"{turns[0]}–{turns[-1]}"
    return ", ".join(map(str, turns))


def _beside(
    place: tuple[float, float], width: float, others: Sequence[tuple[float, float]]
) -> tuple[float, float, str]:
    """Where a name hides the fewest marks: (x, y, anchor), above, below or to a side."""

    def hidden(spot: tuple[float, float, str]) -> tuple[bool, int]:
        x, y, anchor = spot
        left = x if anchor == "start" else x - width
        outside = left < LEFT or left + width > WIDTH or y < TOP + _RADIUS or y > BOTTOM - 2
        return outside, sum(left - 6 < ox < left + width + 6 and y - 16 < oy < y + 9 for ox, oy in others)

    x, y = place
    sides = [(x - _RADIUS, "start"), (x + _RADIUS, "end")]
    if x > (LEFT + RIGHT) / 2:
        sides.reverse()
    spots = [(sx, sy, anchor) for sy in (y - 14, y + 22) for sx, anchor in sides]
    spots += [(x + 14, y + 4, "start"), (x - 14, y + 4, "end")]
    return min(spots, key=hidden)


def _hop(start: tuple[float, float], end: tuple[float, float]) -> str:
    """From the edge of one mark to the edge of the next."""
    far = math.dist(start, end) or 1.0
    along = ((end[0] - start[0]) / far, (end[1] - start[1]) / far)
    edge = min(_RADIUS + 1, far / 2)
    head = min(_RADIUS + 4, far / 2)
    return (
        f"M{_text(start[0] + along[0] * edge)} {_text(start[1] + along[1] * edge)}"
        f"L{_text(end[0] - along[0] * head)} {_text(end[1] - along[1] * head)}"
    )


def _dollars(nanos: float) -> str:
    return show_usd(round(nanos))


def _seconds(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") + " s"


def _text(value: float) -> str:
    return f"{value:.1f}"
