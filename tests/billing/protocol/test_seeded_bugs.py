"""A bug sown into the real scripts, statements or spool is found by walking beside the model."""

from __future__ import annotations

import pytest
from django.db import IntegrityError

from tests.billing.protocol import seeded
from tests.billing.protocol.mirror import GateMirror
from tests.billing.protocol.stack import StackMirror
from tests.billing.protocol.test_conformance import a_world, anyone, customer, follow, with_postgresql

CREDIT = 8
WALKS = 60
FORGETFUL = {"forgets": 9, **dict.fromkeys(("restarts", "evictions", "old_files", "exits", "delays"), 0)}
LIKELY = {"forget_flushed": FORGETFUL, "forget_idle": FORGETFUL, "load_whole": FORGETFUL}
"""Worlds in which a walk comes sooner to where the bug shows."""
SOONEST = {
    "join_holds": 39,
    "load_whole": 12,
    "charge_voided": 11,
    "reserve_beside_holds": 9,
    "unique_gen": 8,
    "forget_idle": 7,
    "join_totals": 6,
    "tally_grows": 4,
    "loaded_mark": 2,
    "raise_max": 2,
}
"""Walks to begin with, for the bugs that the first ones pass by; the others follow all the same."""


@pytest.mark.parametrize("rule", seeded.AT_THE_GATE)
def test_a_bug_in_a_script_is_found(rule, monkeypatch):
    seeded.AT_THE_GATE[rule].sow(monkeypatch)

    with pytest.raises(AssertionError):
        for walk in range(WALKS):
            seed = (SOONEST.get(rule, 0) + walk) % WALKS
            world = a_world(seed, credit=CREDIT, refund=4, **LIKELY.get(rule, {}))
            follow(GateMirror(*anyone(CREDIT)), world, seed, 150)


@with_postgresql
@pytest.mark.parametrize("rule", seeded.IN_THE_STACK)
def test_a_bug_in_sql_or_the_spool_is_found(rule, settings, monkeypatch, tmp_path):
    seeded.IN_THE_STACK[rule].sow(monkeypatch)

    with pytest.raises((AssertionError, IntegrityError)):
        for walk in range(WALKS // 4):
            seed = (SOONEST.get(rule, 0) + walk) % (WALKS // 4)
            mirror = StackMirror(*customer(settings, CREDIT), tmp_path)
            try:
                follow(mirror, a_world(seed, credit=CREDIT, posting=True), seed, 100)
            finally:
                mirror.end()
