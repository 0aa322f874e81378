"""A decision as it is drawn: every mark in the frame, in its place, and told in words as well."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from routing.core import picture, plot
from routing.core.plot import BOTTOM, LEFT, RIGHT, TOP, Point


def candidate(number, cost=1000, seconds=1.0, **more):
    return {
        "endpoint": f"p{number}:acme/m{number}",
        "rank": number,
        "cost_nanos": cost,
        "seconds": seconds,
        **more,
    }


def decision(*candidates, **more):
    found = candidates or (candidate(1, 100_000, 0.4), candidate(2, 200_000, 0.8))
    first = found[0]["endpoint"]
    return {
        "asked": "auto",
        "preference": "balanced",
        "chosen": first,
        "served": first,
        "reason": f"best balance of {len(found)}",
        "considered": len(found),
        "candidates": list(found),
        "excluded": [],
        "excluded_count": 0,
        **more,
    }


def failing(number, failure="overloaded", status=503, seconds=0.25, **more):
    return {
        "endpoint": f"p{number}:acme/m{number}",
        "failure": failure,
        "status": status,
        "seconds": seconds,
        **more,
    }


def points(*pairs):
    return [Point(f"m{n}", cost, seconds, plot.OTHER, (), "") for n, (cost, seconds) in enumerate(pairs)]


def test_cheaper_is_lower_and_faster_is_further_left():
    drawn = plot.of(points((100, 0.4), (900, 0.2), (500, 1.9)))

    cheap, fast, slow = ((float(mark.x), float(mark.y)) for mark in drawn.marks)
    assert fast[0] < cheap[0] < slow[0]
    assert fast[1] < slow[1] < cheap[1]
    assert drawn.logarithmic == ""
    assert (drawn.costs[0].label, drawn.seconds[0].label) == ("$0.00", "0 s")


@pytest.mark.parametrize(("most", "logarithmic"), [(19, ""), (20, "cost"), (10**9, "cost")])
def test_the_spread_decides_whether_a_scale_is_logarithmic(most, logarithmic):
    assert plot.of(points((1, 1.0), (most, 1.0))).logarithmic == logarithmic


def test_every_mark_and_tick_lies_in_the_frame_and_few_ticks_stand_apart():
    dice = random.Random(7)
    for _ in range(400):
        spread = dice.choice([1, 3, 30, 10**3, 10**9])
        free = dice.random() < 0.2
        pairs = [
            (
                0 if free and n % 2 else dice.randint(1, spread),
                dice.uniform(0.001, 1) * dice.choice([1, spread]),
            )
            for n in range(dice.randint(2, 16))
        ]
        drawn = plot.of(points(*pairs))
        for mark in drawn.marks:
            assert LEFT - 0.1 <= float(mark.x) <= RIGHT + 0.1 and TOP - 0.1 <= float(mark.y) <= BOTTOM + 0.1
        for ticks, apart in ((drawn.costs, 12), (drawn.seconds, 30)):
            at = [float(tick.at) for tick in ticks]
            assert 2 <= len(ticks) <= 6 and len({tick.label for tick in ticks}) == len(ticks), (pairs, ticks)
            assert min(abs(b - a) for a, b in itertools.pairwise(at)) >= apart, (pairs, ticks)


def test_all_free_and_all_alike_can_be_drawn():
    for pairs in ([(0, 0.0), (0, 0.0)], [(5, 1.0)] * 16):
        assert len(plot.of(points(*pairs)).marks) == len(pairs)
    assert plot.of(points((1, 1.0))) is None


def test_attempts_are_marked_in_their_order_and_never_hide_each_other():
    alike = [candidate(n, 1000, 1.0) for n in (1, 2, 3, 4)]
    made = decision(*alike, attempts=[failing(1), failing(2)], served="p3:acme/m3")

    drawn = picture.of(made, status="completed", seconds=1.5).plot

    marks = {mark.order: mark for mark in drawn.marks}
    assert [mark.kind for mark in drawn.marks] == ["other", "failed", "failed", "served"]
    assert (marks["1"].kind, marks["2"].kind, marks["3"].kind) == ("failed", "failed", "served")
    spots = [(float(marks[n].x), float(marks[n].y)) for n in "123"]
    for (ax, ay), (bx, by) in itertools.combinations(spots, 2):
        assert abs(ax - bx) + abs(ay - by) >= 18
    assert len(drawn.hops) == 2 and all(re.fullmatch(r"M[-\d. ]+L[-\d. ]+", hop) for hop in drawn.hops)
    assert marks["3"].name == "m3 at p3" and "was overloaded (503)" in marks["1"].words


def test_the_name_of_who_served_hides_no_other_mark_when_it_can_help_it():
    near = [
        candidate(1, 1000, 0.5),
        candidate(2, 1140, 0.75),
        candidate(3, 9000, 3.0),
        candidate(4, 500, 2.0),
    ]

    served = picture.of(decision(*near), status="completed").plot.marks[-1]

    left = float(served.name_x) - (0 if served.anchor == "start" else 6.6 * len(served.name))
    for mark in picture.of(decision(*near), status="completed").plot.marks[:-1]:
        beside = not left - 6 < float(mark.x) < left + 6.6 * len(served.name) + 6
        assert beside or not float(served.name_y) - 16 < float(mark.y) < float(served.name_y) + 9


def test_the_bar_of_attempts_is_to_scale_and_whole():
    made = decision(attempts=[failing(1, seconds=0.5)], served="p2:acme/m2")

    failed, served = picture.of(made, status="completed", seconds=2.0).attempts

    assert (failed.bar_from, failed.bar_width, failed.seconds) == ("0.00", "25.00", "500 ms")
    assert (served.bar_from, served.bar_width, served.seconds) == ("25.00", "75.00", "1.50 s")
    assert (failed.failed, served.failed) == (True, False)
    tiny = picture.of(
        decision(attempts=[failing(1, seconds=0.0001)], served="p2:acme/m2"), status="completed", seconds=9
    )
    assert float(tiny.attempts[0].bar_width) > 0.9 and tiny.attempts[0].seconds == "1 ms"


def test_one_sentence_says_why():
    def said(status="completed", **more):
        return picture.of(decision(**more), status=status).sentence

    again = {"attempts": [failing(1)], "served": "p1:acme/m1"}
    assert said() == "Best balance of 2."
    assert said(**again) == "The first choice was overloaded (503), and served when asked again."
    twice = {"attempts": [failing(1), failing(1, "timeout", None)], "served": "p2:acme/m2"}
    assert said(**twice) == (
        "The first choice was overloaded (503), 1 more attempt failed, and the next in line served."
    )
    assert said("failed", **twice).endswith("1 more attempt failed, and nobody else could serve.")
    begun = {"attempts": [failing(1, "unreachable", None, begun=True)]}
    assert said("failed", **begun).startswith("p1:acme/m1 broke off in the middle of its answer")


def test_an_endpoint_that_was_tried_twice_is_one_mark():
    made = decision(attempts=[failing(1), failing(1)], served="p1:acme/m1")

    drawn = picture.of(made, status="completed", seconds=1.0)

    assert [mark.order for mark in drawn.plot.marks if mark.order] == ["1–3"]
    assert drawn.plot.hops == () and len(drawn.attempts) == 3


def test_an_endpoint_that_is_asked_again_later_is_reached_by_a_hop_back():
    made = decision(attempts=[failing(1), failing(2, "timeout", None), failing(1, "timeout", None)])

    drawn = picture.of(made, status="failed", seconds=1.0)

    assert [mark.order for mark in drawn.plot.marks] == ["1, 3", "2"]
    there, back = drawn.plot.hops
    assert there != back
    assert drawn.candidates[0].failure == "was overloaded (503), then did not answer in time"


def test_a_retry_is_told_with_its_key_and_drawn_after_its_wait():
    tried = [
        failing(1, "rate_limited", 429, seconds=0.5, key="first"),
        failing(1, seconds=0.25, key="second"),
    ]
    again = {"attempts": tried, "served": "p1:acme/m1", "key": "second", "wait": 0.25}

    drawn = picture.of(decision(**again), status="completed", seconds=2.0)

    assert [(each.key, each.wait, each.seconds) for each in drawn.attempts] == [
        ("first", "", "500 ms"),
        ("second", "", "250 ms"),
        ("second", "250 ms", "1.00 s"),
    ]
    bars = [(each.bar_from, each.bar_width) for each in drawn.attempts]
    assert bars == [("0.00", "25.00"), ("25.00", "12.50"), ("50.00", "50.00")]
    assert drawn.sentence == (
        "The first choice was at capacity (429), 1 more attempt failed, and it served when asked again."
    )


def test_what_is_said_of_one_that_failed_and_served_is_not_that_nobody_could():
    again = decision(attempts=[failing(1)], served="p1:acme/m1")
    other_key = decision(attempts=[failing(1, "rate_limited", 429, key="a")], served="p1:acme/m1", key="b")
    rested = decision(
        served="p2:acme/m2", served_reason="p1:acme/m1 is not tried while it rests after failures"
    )
    began_elsewhere = decision(attempts=[failing(2)], served="p1:acme/m1")

    assert picture.why(again, status="completed") == "p1 was overloaded (503); then served when asked again"
    assert picture.why(again, status="failed") == "p1 was overloaded (503); nobody else could serve"
    assert picture.why(other_key, status="completed").endswith("; then served with another key of ours")
    assert picture.of(other_key, status="completed").sentence.endswith(
        ", and served with another key of ours."
    )
    assert picture.of(rested, status="completed").sentence == f"{rested['served_reason']}."
    assert picture.of(began_elsewhere, status="completed").sentence.startswith(
        "p2:acme/m2 was overloaded (503)"
    )


def test_a_provider_whose_connections_were_all_in_use_is_told_as_our_crowd():
    made = decision(attempts=[failing(1, "full", None)], served="p2:acme/m2")

    assert picture.why(made, status="completed") == "fallback: p1 had all our connections in use"


def test_what_a_selector_wrote_beside_the_figures_is_told_and_its_absence_is_not():
    told = candidate(1, weight=0.426, sticky=True)
    rests = candidate(
        2,
        2000,
        2.0,
        weight=0.001,
        state="resting",
        missed="provider.preferred_min_throughput: p50 of 40 tokens/s is below 50",
    )

    drawn = picture.of(
        decision(told, rests, preference="default", unknown_providers=["opnai"]), status="completed"
    )

    assert drawn.candidates[0].notes == ("43 % of the draw", "its prompt cache is warm")
    assert drawn.candidates[1].notes == (
        "under 1 % of the draw",
        "put last: it failed just now",
        "p50 of 40 tokens/s is below 50",
    )
    assert [mark.kind for mark in drawn.plot.marks] == ["resting", "served"]
    assert (drawn.preference, drawn.unknown) == ("nothing in particular", ("opnai",))
    plain = picture.of(decision(), status="completed")
    assert all(each.notes == () for each in plain.candidates) and plain.unknown == ()


def test_a_reason_that_names_its_own_endpoint_is_the_same_for_all():
    def reasons(*pairs):
        entries = [{"endpoint": slug, "reason": reason} for slug, reason in pairs]
        made = decision(excluded=entries, excluded_count=len(entries))
        return [(found.count, found.words) for found in picture.of(made, status="completed").excluded]

    assert reasons(
        ("groq:meta/llama", "provider.only: groq is not openai"),
        ("x-ai:x-ai/grok", "provider.only: x-ai is not openai"),
    ) == [(2, "provider.only: it is not openai")]
    assert reasons(
        ("a:acme/m1", "allowed_models: acme/m1 is not among them"),
        ("a:acme/m2", "allowed_models: acme/m2 is not among them"),
    ) == [(2, "allowed_models: it is not among them")]
    assert reasons(("ai:x/y", "provider.ignore names ai-2")) == [(1, "provider.ignore names ai-2")]


def test_reasons_to_leave_out_are_grouped_and_counted():
    excluded = [
        *({"endpoint": f"p{n}:a/m", "reason": "cannot do vision"} for n in range(2)),
        {"endpoint": "p7:a/m", "reason": "12,500 tokens do not fit its context of 8192"},
        {"endpoint": "p8:a/m", "reason": "12,500 tokens do not fit its context of 4096"},
        {"endpoint": "p9:a/m", "reason": "12,500 tokens do not fit its context of 8192"},
        {"endpoint": "p6:a/m", "reason": "may cost $0.0031, above max_cost $0.001"},
    ]

    drawn = picture.of(decision(excluded=excluded, excluded_count=40), status="completed")

    assert [(reason.count, reason.words) for reason in drawn.excluded] == [
        (3, "12,500 tokens do not fit its context of 4096 to 8192"),
        (2, "cannot do vision"),
        (1, "may cost $0.0031, above max_cost $0.001"),
    ]
    assert drawn.excluded[1].endpoints == ("p0:a/m", "p1:a/m") and drawn.unlisted == 34
