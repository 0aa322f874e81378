"""A plan is in force within a second, for calls that begin after it."""

from __future__ import annotations

import time

import pytest

pytestmark = pytest.mark.xdist_group("gateway")


@pytest.mark.parametrize(("plan", "markup"), [("pro", "0.05"), ("business", "0.03")])
def test_the_next_call_pays_by_the_new_plan(caller, desk, sandbox, plan, markup):
    began = time.monotonic()
    caller.chat("sandbox/pebble", max_tokens=40)
    changed = time.monotonic()
    desk.set_plan(caller.organization, plan)
    caller.chat("sandbox/pebble", max_tokens=40)
    assert time.monotonic() - changed < 5 + 5 * (changed - began)  # the machine may be busy

    before, after = desk.await_generations(caller.organization, 2, posted=True)
    assert before["charge_nanos"] == sandbox.charge(before["upstream_id"], markup="0.10")
    assert after["charge_nanos"] == sandbox.charge(after["upstream_id"], markup=markup)
    assert str(after["markup"]).rstrip("0") == markup


def test_every_worker_follows(caller, desk, sandbox):
    for _ in range(8):
        caller.http.post("/chat/completions", json=caller.body(), headers={"Connection": "close"})
    desk.set_plan(caller.organization, "business")
    for _ in range(8):
        caller.http.post("/chat/completions", json=caller.body(), headers={"Connection": "close"})

    rows = desk.await_generations(caller.organization, 16)
    assert len({row["spool"] for row in rows}) == 2
    assert {str(row["markup"]).rstrip("0") for row in rows[8:]} == {"0.03"}


def test_a_call_under_way_pays_by_the_plan_it_began_with(caller, desk, sandbox):
    with caller.opened("sandbox/oracle", max_tokens=20) as response:
        desk.set_plan(caller.organization, "business")
        response.read()

    (row,) = desk.await_generations(caller.organization, 1)
    assert row["charge_nanos"] == sandbox.charge(row["upstream_id"], markup="0.10")


def test_an_agreed_mark_up(caller, desk, sandbox):
    desk.set_plan(caller.organization, "production", markup="0.0175")
    caller.chat("sandbox/pebble", max_tokens=40)

    (row,) = desk.await_generations(caller.organization, 1)
    assert row["charge_nanos"] == sandbox.charge(row["upstream_id"], markup="0.0175")
