"""Histograms tell percentiles within their error, merged or not, and never grow beyond their bound."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.core import histogram
from routing.core.histogram import LAST, RATE, RELATIVE_ERROR, SECONDS

SHARES = (0.5, 0.75, 0.9, 0.99)
seconds = st.lists(st.floats(min_value=0.001, max_value=900), min_size=1, max_size=200)


def counted(values, least=SECONDS):
    counts: histogram.Counts = {}
    for value in values:
        histogram.add(counts, value, least)
    return counts


def exact(values, share):
    """The least value that so much of all values does not exceed."""
    return sorted(values)[math.ceil(share * len(values) - 1e-9) - 1]


def within_its_error(found, values):
    for share, told in zip(SHARES, found, strict=True):
        assert told == pytest.approx(exact(values, share), rel=RELATIVE_ERROR * 1.0001)


@given(seconds)
def test_every_percentile_is_within_the_stated_error(values):
    assert RELATIVE_ERROR < 0.045
    within_its_error(histogram.percentiles(counted(values), SHARES, SECONDS), values)


@given(st.lists(st.floats(min_value=0.1, max_value=100_000), min_size=1, max_size=200))
def test_rates_have_the_same_error(values):
    within_its_error(histogram.percentiles(counted(values, RATE), SHARES, RATE), values)


@given(seconds, seconds, seconds)
def test_merging_in_any_order_is_counting_all(first, second, third):
    forth, back = {}, {}
    for values in (first, second, third):
        histogram.merge(forth, counted(values))
    for values in (third, first, second):
        histogram.merge(back, counted(values))

    assert forth == back == counted([*first, *second, *third])


@given(st.floats(min_value=0, max_value=1e300))
def test_no_value_makes_a_bucket_beyond_the_bound(value):
    assert 0 <= histogram.bucket(value, SECONDS) <= LAST
    assert 0 <= histogram.bucket(value, RATE) <= LAST


def test_newer_counts_may_weigh_more():
    old, new = counted([1.0] * 10), counted([4.0] * 10)
    together: dict[int, float] = {}
    histogram.merge_weighed(together, old, 0.25)
    histogram.merge_weighed(together, new, 1)

    assert histogram.percentiles(together, (0.5,), SECONDS) == [pytest.approx(4, rel=RELATIVE_ERROR)]


def test_nothing_counted_has_no_percentile():
    assert histogram.percentiles({}, SHARES, SECONDS) is None
