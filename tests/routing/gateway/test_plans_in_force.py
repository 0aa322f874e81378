"""A plan is in force within a second, for calls that begin after it."""

from __future__ import annotations

import time

import pytest

from tests.faults.load import Customer, Log, call
from tests.routing.gateway.test_workers_that_are_killed import workers
from tests.workers import lines_to_each

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


def test_every_worker_follows(running, caller, desk):
    customer = Customer(caller.organization, caller.text, caller.key_id)

    def call_each():
        with lines_to_each(running.api_base, workers(running)) as lines:
            said = [call(running.api_base, customer, Log(), at=line) for line in lines]
        assert [entry.outcome for entry in said] == ["ok", "ok"]

    call_each()
    desk.set_plan(caller.organization, "business")
    call_each()

    rows = desk.await_generations(caller.organization, 4)
    assert len({row["spool"] for row in rows[:2]}) == len({row["spool"] for row in rows[2:]}) == 2
    assert {str(row["markup"]).rstrip("0") for row in rows[2:]} == {"0.03"}


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
