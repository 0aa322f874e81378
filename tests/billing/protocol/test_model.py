"""The protocol keeps its promises in every small world, and without any one of its rules it breaks one."""

from __future__ import annotations

import random

import pytest

from tests.billing.protocol import promises
from tests.billing.protocol.rules import RULES
from tests.billing.protocol.search import FINISHED, UNFINISHED, hunt, never_at_rest, search, walk
from tests.billing.protocol.state import Model
from tests.billing.protocol.worlds import FAULTS, LARGE, LONG, SHORT, World

MOST_STATES = 250_000
"""Of each larger world; the shortest histories come first."""


@pytest.mark.parametrize("world", SHORT)
def test_no_history_of_a_small_world_breaks_a_promise(world):
    found = search(World(**SHORT[world]))

    assert found.verdict == FINISHED, str(found)
    assert found.states > 2000


@pytest.mark.parametrize("rule", RULES)
def test_without_the_rule_it_breaks(rule):
    found = hunt(rule)

    assert found.verdict not in (FINISHED, UNFINISHED, "stuck"), str(found)
    assert found.history


def test_from_everywhere_the_way_leads_back_to_rest():
    assert never_at_rest(World(delays=1, restarts=1)) == 0


def test_no_long_walk_through_every_fault_breaks_a_promise():
    steps, rests = _walk_all(range(25), 250)

    assert steps > 3000 and rests > 10


@pytest.mark.long
@pytest.mark.parametrize("world", LONG)
def test_no_history_of_a_larger_world_breaks_a_promise_as_far_as_is_searched(world):
    found = search(World(**LONG[world]), MOST_STATES)

    assert found.verdict in (FINISHED, UNFINISHED), str(found)


@pytest.mark.long
@pytest.mark.parametrize(
    "world",
    [
        FAULTS,
        {"evictions": 1, "restarts": 1},
        {"credit": 5, "topup": 3, "refund": 4, "restarts": 1},
        dict(late=1, **FAULTS),
    ],
    ids=str,
)
def test_from_everywhere_in_a_larger_world_the_way_leads_back_to_rest(world):
    assert never_at_rest(World(**world)) == 0


@pytest.mark.long
def test_no_walk_of_a_thousand_breaks_a_promise():
    steps, rests = _walk_all(range(100, 1100), 250)

    assert steps > 100_000 and rests > 500


def _walk_all(seeds, length):
    steps = rests = 0
    for seed in seeds:
        rng = random.Random(seed)
        m = Model(World(**LARGE, **({"late": 2, "graces": 1} if seed % 3 == 0 else {})))
        history = []
        for _, step in walk(m, rng, length, faulty=rng.choice((0.02, 0.05, 0.1))):
            history.append(step.did)
            steps += 1
            rests += promises.at_rest(m, step.state)
            wrong = promises.broken(m, step.state)
            assert not wrong, (seed, wrong, history)
    return steps, rests
