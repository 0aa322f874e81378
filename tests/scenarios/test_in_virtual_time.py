"""The selector on worlds of one seed for tuning, in virtual time: the same figures at every run."""

from __future__ import annotations

import pytest

from routing import merging
from tests.scenarios import oracle, run, virtual, worlds
from tests.scenarios.oracle import Verdict
from tests.scenarios.worlds import KINDS, PREFERENCES

SEEDS = (1,)


@pytest.fixture(scope="module")
def played() -> list[Verdict]:
    drawn = [
        worlds.draw(kind, preference, seed) for kind in KINDS for preference in PREFERENCES for seed in SEEDS
    ]
    return [virtual.play(world) for world in drawn]


def test_virtual_time_merges_live_figures_as_the_job_does():
    assert (virtual.LATELY, virtual.HALVES_EVERY) == (merging.LATELY, merging.HALVES_EVERY)


def test_virtual_time_leaves_nothing_to_chance():
    world = worlds.draw("flapping", "balanced", 1)

    assert virtual.play(world).calls == virtual.play(world).calls


@pytest.mark.parametrize("kind", KINDS)
def test_calls_succeed_with_few_attempts_whatever_changes(played: list[Verdict], kind: str):
    mine = [verdict for verdict in played if verdict.world.kind == kind]

    found = oracle.figures(mine)
    assert found.success >= 0.995 and found.amplification <= 1.1, run.table(mine)


def test_a_new_price_is_followed_within_two_seconds(played: list[Verdict]):
    mine = [verdict for verdict in played if verdict.world.kind == "price"]

    found = oracle.figures(mine)
    assert found.never == 0 and max(found.struck) <= 2.0, run.table(mine)
    assert found.settled >= 0.95


def test_what_has_recovered_is_found_again_though_half_a_minute_of_others_figures_speaks_against_it(
    played: list[Verdict],
):
    mine = [verdict for verdict in played if verdict.world.kind in ("outage", "recovery")]

    found = oracle.figures(mine)
    assert found.never == 0 and max(found.healed) <= 6.0, run.table(mine)
    assert found.settled >= 0.9


@pytest.mark.parametrize(("kind", "least"), [("brown-out", 0.9), ("rate-limit", 0.9), ("flapping", 0.85)])
def test_once_a_change_is_found_out_choices_are_right(played: list[Verdict], kind: str, least: float):
    mine = [verdict for verdict in played if verdict.world.kind == kind]

    assert oracle.figures(mine).settled >= least, run.table(mine)


def test_a_named_model_without_a_preference_is_spread_by_price(played: list[Verdict]):
    mine = [verdict for verdict in played if verdict.world.preference == "default"]

    assert oracle.figures(mine).spread <= 0.2, run.table(mine)
