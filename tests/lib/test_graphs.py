"""Geometry of graphs: heights are proportional, ticks reach the greatest value, and nothing is ever NaN."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.lib import graphs

VALUES = st.integers(0, 10**15) | st.floats(1e-9, 1e12)


def series(*values, name="Calls"):
    return graphs.Series(name, values)


def bars(*every, before=None):
    slots = graphs.days(date(2026, 11, 1), len(every[0].values))
    return graphs.bars("g", slots, every, title="T", words="W", show=str, before=before)


def lines(*every, **how):
    slots = graphs.days(date(2026, 11, 1), len(every[0].values))
    return graphs.lines("g", slots, every, title="T", words="W", show=str, **how)


def heights(drawn):
    return [sum(float(piece.height) for piece in stack.pieces) for stack in drawn.stacks]


def test_heights_are_proportional_and_the_greatest_tick_fills_the_frame():
    drawn = bars(series(100, 50, 0, 25))

    assert heights(drawn) == [160, 80, 0, 40]
    assert [(tick.y, tick.label) for tick in drawn.axes.ticks][-1] == ("0.00", "100")


def test_series_are_stacked_without_gap_or_overlap():
    (stack,) = bars(series(60), series(40, name="Others")).stacks
    first, second = stack.pieces

    assert float(first.y) + float(first.height) == graphs.HEIGHT
    assert float(second.y) + float(second.height) == float(first.y)
    assert (first.look, second.look) == (0, 1)
    assert stack.hit.words == "Sun 1 Nov: Calls 60, Others 40"


def test_what_is_not_nothing_is_seen():
    assert heights(bars(series(1_000_000, 1))) == [160, 1.5]


def test_the_period_before_is_an_outline_on_the_same_scale():
    drawn = bars(series(50, 0), before=series(100, None, name="Before"))

    assert heights(drawn) == [80, 0]
    assert [stack.before and stack.before.height for stack in drawn.stacks] == ["160.00", None]
    assert drawn.axes.rows[1].cells == ("0", "–")


@given(VALUES, st.booleans())
def test_ticks_are_even_and_reach_the_greatest_value(most, whole):
    found = graphs.ticks(most, whole=whole)

    assert found[0] == 0
    assert found[-1] >= most * (1 - 1e-9)
    assert len(found) <= 6
    steps = {round((b - a) / (found[1] - found[0]), 6) for a, b in zip(found, found[1:], strict=False)}
    assert steps <= {1}


@pytest.mark.parametrize(
    ("most", "found"),
    [
        (1, (0, 1)),
        (3, (0, 1, 2, 3)),
        (9, (0, 5, 10)),
        (1234, (0, 500, 1000, 1500)),
        (100, (0, 25, 50, 75, 100)),
        (0, (0,)),
    ],
)
def test_ticks_of_whole_things_are_whole_and_round(most, found):
    assert graphs.ticks(most, whole=True) == found


def test_a_scale_may_begin_above_zero():
    drawn = lines(series(99.5, 100.0), lowest=99, highest=100)

    assert drawn.axes.ticks[0].label == "99.0"
    assert [spot.y for spot in drawn.lines[0].spots] == ["80.00", "0.00"]


def test_a_line_has_a_gap_where_there_is_no_value_and_a_marker_where_it_stands_alone():
    (line,) = lines(series(1, 1, None, 1, None, 1, 1)).lines

    assert re.findall(r"[ML]", line.path) == ["M", "L", "M", "L"]
    assert len(line.spots) == 5


@given(st.lists(VALUES | st.none(), max_size=100), st.lists(VALUES | st.none(), max_size=3))
def test_no_coordinate_is_ever_nan_or_outside(values, more):
    other = (more * 100)[: len(values)] if more else values
    texts = repr((bars(series(*values), series(*other)), lines(series(*values), series(*other))))

    assert "nan" not in texts
    for y in re.findall(r" y='([^']*)'", texts):
        assert 0 <= float(y) <= graphs.HEIGHT
    for x in re.findall(r"\bx='([^']*)'", texts):
        assert 0 <= float(x) <= 100


def test_nothing_can_be_drawn_of_nothing():
    empty = bars(series())

    assert (empty.stacks, empty.axes.rows, empty.axes.labels) == ((), (), ())
    assert [tick.y for tick in empty.axes.ticks] == ["160.00"]
    assert lines(series()).lines[0].path == ""
    assert graphs.uptime("g", [], title="T", words="W").cells == ()


def test_few_slots_are_labelled_and_the_last_always():
    labels = bars(series(*range(30))).axes.labels

    assert len(labels) <= 8
    assert (labels[-1].text, labels[-1].anchor, labels[-1].wide) == ("30 Nov", "end", False)
    assert len([label for label in labels if not label.wide]) <= 4


def test_cells_differ_by_height_as_well_as_by_state():
    slots = graphs.days(date(2026, 11, 1), 4)
    states = (graphs.GOOD, graphs.DEGRADED, graphs.BAD, graphs.NONE)
    drawn = graphs.uptime(
        "u", [(slot, state, "99 %") for slot, state in zip(slots, states, strict=True)], title="T", words="W"
    )

    assert len({cell.height for cell in drawn.cells}) == 4
    assert drawn.cells[0].words == "Sun 1 Nov: 99 %"
    assert [row.cells for row in drawn.axes.rows] == [("99 %",)] * 4


def test_hours_say_their_day():
    first, second = graphs.hours(datetime(2026, 11, 1, 23, tzinfo=UTC), 2)

    assert (first.words, second.words, second.short) == ("1 Nov, 23:00", "2 Nov, 00:00", "00:00")


@pytest.mark.parametrize("wrong", [(series(1, 2), series(1)), tuple(series(1) for _ in range(11))])
def test_what_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(ValueError):
        bars(*wrong)
    with pytest.raises(ValueError):
        bars(series(-1))
