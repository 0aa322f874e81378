"""A prediction goes from the catalog's figures to what all gateways saw, and quickly to what changed."""

from __future__ import annotations

import pytest

from routing.core import folds
from routing.core.folds import Fold, Tally
from routing.core.live import Live
from routing.core.vitals import NOTHING, Percentiles, Plain, Recent, Snapshot, Vitals

CATALOG = {"ttft_seconds": 1.0, "seconds_per_token": 0.01}


def same(value):
    return Percentiles(value, value, value, value)


def snapshot(**vitals):
    return Snapshot(1, 0.0, {"e": Vitals(**vitals)})


def predicted(learned=NOTHING, *, live=None, now=0.0):
    live = live or Live()
    if learned is not NOTHING:
        live.learn(learned)
    return live.predict("e", **CATALOG, now=now)


def test_what_all_gateways_saw_stands_in_for_the_catalog():
    seen = snapshot(attempts=1000, ttft_seconds=same(0.2), tokens_per_second=same(50))

    assert predicted(seen) == (pytest.approx(0.2, rel=0.01), pytest.approx(0.02, rel=0.01))
    assert predicted(snapshot(attempts=1, ttft_seconds=same(0.2)))[0] == pytest.approx(2.2 / 3)
    assert predicted(Snapshot(1, 0.0, {"another": Vitals()})) == (1.0, 0.01)


def test_half_a_minute_outweighs_five_when_a_provider_slows_down():
    slow = Recent(attempts=20, ttft_seconds=3.0, tokens_per_second=10)
    seen = snapshot(attempts=1000, ttft_seconds=same(0.2), tokens_per_second=same(100), recent=slow)

    ttft, pace = predicted(seen)

    assert ttft > 2.7 and pace > 0.09


def test_failures_of_the_last_half_minute_add_no_weight_to_its_median():
    failing = Recent(attempts=100, failures=60, rate_limited=39, ttft_seconds=3.0)
    seen = snapshot(attempts=1000, ttft_seconds=same(0.2), recent=failing)

    assert predicted(seen)[0] == pytest.approx((2 * 0.2 + 3.0) / 3, rel=0.01)


def test_plain_answers_of_all_gateways_scale_the_prediction():
    ttft, pace = predicted(snapshot(attempts=200, plain=Plain(200, 6.0, 100.0)))

    assert ttft + 100 * pace == pytest.approx(6, rel=0.03)  # the catalog says 2 s


def test_own_samples_count_at_once_and_leave_the_word_to_the_next_snapshot():
    live = Live()
    live.learn(snapshot(attempts=1000, ttft_seconds=same(0.2), tokens_per_second=same(100)))
    for _ in range(12):
        live.observe("e", ttft_seconds=4.0, tokens=10, seconds=4.1, now=10.0)

    assert predicted(live=live, now=10.0)[0] > 2.5
    assert predicted(live=live, now=40.0)[0] == pytest.approx(0.2, rel=0.1)


def test_without_a_snapshot_any_more_the_last_figures_fade_to_the_catalog():
    live = Live()
    live.learn(snapshot(attempts=1000, ttft_seconds=same(0.2), tokens_per_second=same(50), plain=None))
    live.go_alone(10.0)

    ttft, pace = predicted(live=live, now=10.0)
    assert ttft < 0.3 and pace > 0.018
    assert live.vitals("e") is None
    assert predicted(live=live, now=3600.0) == (pytest.approx(1.0), pytest.approx(0.01))


def test_predictions_may_change_when_a_snapshot_was_learned():
    live = Live()
    stamp = live.stamp(0.0)
    live.learn(snapshot(attempts=10, ttft_seconds=same(0.2)))

    assert live.stamp(0.6) != stamp


def test_what_the_catalog_does_not_list_any_more_is_forgotten():
    live = Live()
    for slug in ("kept", "gone"):
        live.observe(slug, ttft_seconds=1.0, tokens=5, seconds=2.0, now=0.0)
    live.keep_only(frozenset({"kept"}))

    assert live.observed() == ("kept",)
    assert set(live.folds) == {"kept"}


def test_limits_are_counted_apart_and_hurt_no_uptime():
    live = Live()
    for limited in (True, False):
        live.observe("e", ttft_seconds=None, tokens=9, seconds=1, now=0)
        live.failed("e", rate_limited=limited)
    fold = live.folds["e"]
    told = folds.vitals(fold, [(1.0, fold)], half_hour=fold.tally(), day=fold.tally(), healthy=None)

    assert told.attempts == told.recent.attempts == 4
    assert (told.recent.failures, told.recent.rate_limited) == (1, 1)
    assert told.uptime_5m == told.uptime_30m == pytest.approx(2 / 3, abs=1e-5)


def test_the_cache_share_is_of_prompts_that_have_a_price_for_it():
    live = Live()
    seen = {"ttft_seconds": 0.1, "tokens": 9, "seconds": 1, "now": 0}
    live.observe("e", **seen, prompt=100, cached=80)
    live.observe("e", **seen, prompt=100, cached=0)
    live.observe("e", **seen)

    assert vitals(live.folds["e"]).cache_hit_share == 0.4
    assert vitals(Fold(worked=1)).cache_hit_share is None


def test_a_high_percentile_of_speed_is_a_hard_promise():
    live = Live()
    for number in range(1, 101):
        live.observe("e", ttft_seconds=number / 10, tokens=100, seconds=number / 10 + 1, now=0)
    live.observe("e", ttft_seconds=1, tokens=2000, seconds=2, now=0)
    told = vitals(live.folds["e"])

    assert told.ttft_seconds.p90 == pytest.approx(9, rel=0.06)
    assert told.tokens_per_second.p99 == told.tokens_per_second.p50 == pytest.approx(100, rel=0.05)


def test_probes_say_how_well_an_endpoint_is_only_where_there_was_no_traffic():
    assert Tally(0, 0, 4, 1).uptime == 0.75
    assert Tally(9, 1, 100, 100).uptime == 0.9
    assert Tally().uptime is None
    assert vitals(Fold(probes=2, probe_ttft={50: 2})).ttft_seconds is not None
    assert vitals(Fold(ttft={80: 1}, probe_ttft={50: 2})).ttft_seconds.p50 > 0.9


def vitals(fold):
    return folds.vitals(fold, (), half_hour=Tally(), day=Tally(), healthy=None)
