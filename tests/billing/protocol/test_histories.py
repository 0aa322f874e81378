"""What breaks a protocol with one rule less, and what breaks a counter, ends right with ours.

Each is followed on the real gate, with real spools and PostgreSQL, and then led to rest.
"""

from __future__ import annotations

import pytest

from billing import gate
from tests.billing.protocol import promises, worlds
from tests.billing.protocol.histories import NAIVE, along
from tests.billing.protocol.mirror import GateMirror
from tests.billing.protocol.rules import RULES
from tests.billing.protocol.search import hunt
from tests.billing.protocol.stack import StackMirror
from tests.billing.protocol.state import TOLD, Model
from tests.billing.protocol.test_conformance import anyone, customer, with_postgresql
from tests.billing.protocol.worlds import World


def follow(mirror, world, history):
    """Every promise is kept at every step, on the way to rest too. Returns the last state."""
    m = Model(world)
    d = m.start()
    mirror.start(m, d)
    for before, step in along(m, history):
        mirror.follow(before, step)
        d = step.state
        assert promises.broken(m, d) is None, step
    assert promises.at_rest(m, d)
    return m, d


def end_right(mirror, world, history):
    m, d = follow(mirror, world, history)
    held = sum(d["holds"])
    for account in mirror.accounts:
        assert gate.load(account).spendable == m.balance(d) - held
    charged = [call for call in m.calls if d["stage"][call] == TOLD]
    assert all(d["generations"][call] == 1 for call in charged)
    return charged


@with_postgresql
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "refund_confirm"])
def test_what_breaks_a_protocol_without_the_rule_ends_right_with_it(rule, settings, tmp_path):
    world = World(**worlds.MISSED_IN.get(rule, {"restarts": 1}))
    mirror = StackMirror(*customer(settings, world.credit), tmp_path)
    try:
        end_right(mirror, world, hunt(rule).history)
    finally:
        mirror.end()


def test_a_refund_of_money_that_is_held_is_cancelled():
    world = World(credit=8, refund=4, calls=(worlds.TWO[0], worlds.TWO[1]))
    history = [("admit", 0, 0), ("start", 0, 0), ("admit", 0, 1), ("start", 0, 1), ("refund",)]

    m, d = follow(GateMirror(*anyone(8)), world, [*history, ("ticket",), ("snapshot",), ("load",)])

    assert d["credits"] == 8 and m.balance(d) == 8 - 3 - 4


@with_postgresql
@pytest.mark.parametrize("name", NAIVE)
def test_what_breaks_a_counter_ends_right(name, settings, tmp_path):
    kind, history = NAIVE[name]
    mirror = StackMirror(*customer(settings, World(**kind).credit), tmp_path)
    try:
        charged = end_right(mirror, World(**kind), history)
    finally:
        mirror.end()
    assert charged or "top-up" in name
