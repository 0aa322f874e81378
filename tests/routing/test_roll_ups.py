"""Hours and days of endpoints: always the sum of their windows, whenever and however often they are made."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from routing import roll_ups, trends
from routing.core.folds import Fold
from routing.models import EndpointDay, EndpointHour, Window
from routing.roll_ups import Sum

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
FIELDS = ("worked", "failures", "rate_limited", "probes", "probe_failures")


def window(endpoint, start, *, ttft=None, **counts):
    counts = dict.fromkeys(FIELDS, 0) | counts
    fold = Fold(**counts, ttft={80: counts["worked"]} if ttft is None else ttft)
    stored = msgspec.to_builtins(fold, str_keys=True)
    return Window.objects.create(endpoint=endpoint, start=start, fold=stored, **counts)


def summed(rows):
    total = Sum()
    for row in rows:
        if isinstance(row, Window):
            total.add_window(row)
        else:
            total.add(row)
    return total


def test_hours_and_days_are_the_sums_of_windows_in_whatever_order_they_came(time_machine):
    """Windows come shuffled over three days while the job runs in between, with a look at all at the end."""
    time_machine.move_to(NOON, tick=False)
    dice = random.Random(7)
    starts = [NOON - timedelta(minutes=5 * n) for n in dice.sample(range(1, 800), 60)]
    for number, start in enumerate(starts):
        for endpoint in ("p:a/m", "q:a/m")[: 1 + number % 2]:
            seen = {name: dice.choice((0, 0, 1, 8)) for name in FIELDS}
            window(endpoint, start, **{**seen, "probes": seen["probes"] + seen["probe_failures"]})
        if number % 20 == 0:
            roll_ups.roll_up()
    roll_ups.roll_up(whole=True)
    once = list(EndpointDay.objects.values())
    roll_ups.roll_up(whole=True)

    assert list(EndpointDay.objects.values()) == once and len(once) > 4
    for endpoint in ("p:a/m", "q:a/m"):
        windows, hours, days = (
            summed(kind.objects.filter(endpoint=endpoint)) for kind in (Window, EndpointHour, EndpointDay)
        )
        assert windows == hours == days
        assert windows.windows == Window.objects.filter(endpoint=endpoint).count()


def test_a_window_that_comes_late_is_added_and_one_that_is_dropped_takes_nothing_away(time_machine):
    time_machine.move_to(NOON, tick=False)
    window("p:a/m", NOON - timedelta(minutes=20), worked=3)
    roll_ups.roll_up()
    window("p:a/m", NOON - timedelta(minutes=15), worked=1, failures=1)
    roll_ups.roll_up()
    (day,) = EndpointDay.objects.all()
    assert (day.windows, day.up, day.down, day.minutes_seen, day.minutes_down) == (2, 4, 1, 10, 5)

    Window.objects.all().delete()
    roll_ups.roll_up(whole=True)
    assert EndpointDay.objects.get() == day and EndpointDay.objects.get().windows == 2


def test_probes_say_how_up_it_was_only_where_nobody_called():
    window("p:a/m", NOON, worked=2, probes=4, probe_failures=4)
    window("p:a/m", NOON + timedelta(minutes=5), probes=4, probe_failures=1)

    total = summed(Window.objects.all())
    assert (total.up, total.down, total.minutes_down) == (5, 1, 0)


def test_hours_go_with_the_windows_and_days_stay_longer(time_machine, settings):
    time_machine.move_to(NOON, tick=False)
    for days in (1, settings.VITALS_KEPT_DAYS - 1):
        window("p:a/m", NOON - timedelta(days=days), worked=1)
    roll_ups.roll_up(whole=True)
    assert (EndpointHour.objects.count(), EndpointDay.objects.count()) == (2, 2)

    time_machine.move_to(NOON + timedelta(days=10), tick=False)
    roll_ups.roll_up()
    assert (EndpointHour.objects.count(), EndpointDay.objects.count()) == (1, 2)
    time_machine.move_to(NOON + timedelta(days=settings.VITALS_DAYS_KEPT_DAYS), tick=False)
    roll_ups.roll_up()
    assert EndpointDay.objects.count() == 0


@pytest.mark.parametrize("span", trends.SPANS)
def test_a_chart_of_every_span_has_its_values_in_their_slots_and_gaps_elsewhere(time_machine, span):
    time_machine.move_to(NOON + timedelta(minutes=7), tick=False)
    window("p:a/m", NOON, worked=3, failures=1)
    window("p:a/idle", NOON)
    roll_ups.roll_up()

    found = trends.of(["p:a/m", "p:a/idle"], span)
    (course,) = found.courses
    assert course.uptime[-1] == 0.75 and set(course.uptime[:-1]) == {None}
    assert course.ttft_seconds[-1] == pytest.approx(1.07, abs=0.01)
    assert course.tokens_per_second[-1] is None and len(course.uptime) == found.span.slots


def test_a_chart_shows_the_most_tried_and_says_how_many_it_leaves_out(time_machine):
    time_machine.move_to(NOON, tick=False)
    for number in range(7):
        window(f"p{number}:a/m", NOON - timedelta(minutes=5), worked=number + 1)

    found = trends.of([f"p{number}:a/m" for number in range(7)], "24h")
    assert [course.endpoint for course in found.courses] == [f"p{n}:a/m" for n in (6, 5, 4, 3, 2)]
    assert found.left_out == 2
