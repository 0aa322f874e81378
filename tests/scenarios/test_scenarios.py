"""Each kind of change once, on fixed seeds, over a running product; `tests.scenarios.run` says more.

What the selector promises is held to every day in virtual time, within closer bounds, and that processes tell
each other what they see in `tests/processes/test_live_figures.py`. The bounds here are far from what a quiet
machine measures: they find a selector that is broken, not one that is a little worse.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scenarios import oracle, run, stage, worlds
from tests.scenarios.oracle import Verdict
from tests.scenarios.worlds import KINDS, PREFERENCES, SEEDS

pytestmark = pytest.mark.long

SEED = 1
PLAYED = {
    "outage": "speed",
    "brown-out": "balanced",
    "price": "cost",
    "rate-limit": "cost",
    "flapping": "default",
    "recovery": "balanced",
}
LEAST_SUCCESS = 0.97
MOST_ATTEMPTS = 1.4
MOST_SECONDS_TO_A_NEW_PRICE = 4.0


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stage.Stage]:
    with stage.running(tmp_path_factory.mktemp("scenarios")) as found:
        yield found


@pytest.fixture(scope="module")
def played(stand: stage.Stage) -> dict[str, Verdict]:
    """All kinds at the same time."""
    drawn = [worlds.draw(kind, preference, SEED) for kind, preference in PLAYED.items()]
    return {verdict.world.kind: verdict for verdict in stand.play(drawn, seed=SEED)}


@pytest.mark.parametrize("kind", KINDS)
def test_nearly_every_call_succeeds_with_few_attempts_whatever_changes(played, kind: str):
    found = oracle.figures([played[kind]])

    assert found.success >= LEAST_SUCCESS, run.story(played[kind])
    assert found.amplification <= MOST_ATTEMPTS, run.story(played[kind])


@pytest.mark.parametrize("kind", ["outage", "brown-out", "price", "flapping"])
def test_the_selector_leaves_what_is_no_longer_best(played, kind: str):
    verdict = played[kind]
    left = [seconds for at, seconds in verdict.converged.items() if at == verdict.world.events[0].after]

    assert left and left[0] is not None, run.story(verdict)


def test_the_selector_follows_a_price(played):
    verdict = played["price"]

    assert len(verdict.converged) == 3
    for seconds in verdict.converged.values():
        assert seconds is not None and seconds < MOST_SECONDS_TO_A_NEW_PRICE, run.story(verdict)


def test_the_selector_comes_back_to_what_has_recovered(played):
    verdict = played["recovery"]

    assert verdict.converged[max(verdict.converged)] is not None, run.story(verdict)


def test_on_all_seeds_for_tuning_calls_go_where_the_oracle_would_send_them(stand: stage.Stage):
    drawn = [worlds.draw(k, p, seed) for seed in SEEDS for k in KINDS for p in PREFERENCES]

    verdicts = list(run.play(stand, drawn, at_a_time=8))

    print(run.table(verdicts))
    found = oracle.figures(verdicts)
    assert found.success >= 0.995 and found.amplification <= 1.1
    assert found.settled >= 0.85
