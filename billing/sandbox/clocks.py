"""Test clocks: a time of their own for some customers, moved forward on demand."""

from __future__ import annotations

from billing.sandbox import due
from billing.sandbox.account import DAY, Account
from billing.sandbox.lists import page
from billing.sandbox.refusals import Invalid, Thing

_MOST_AHEAD = 2 * 366 * DAY


def create(account: Account, params: Thing) -> Thing:
    clock = account.add(
        "test_helpers.test_clock",
        {
            "deletes_after": account.now() + 30 * DAY,
            "frozen_time": params["frozen_time"],
            "name": params.get("name"),
            "status": "ready",
            "status_details": {},
        },
    )
    account.emit("test_helpers.test_clock.created", clock)
    return clock


def advance(account: Account, params: Thing, clock_id: str) -> Thing:
    """What falls due happens before the answer; the real Stripe says `advancing` and goes on meanwhile."""
    clock = account.get("test_helpers.test_clock", clock_id)
    until = params["frozen_time"]
    if until <= clock["frozen_time"]:
        raise Invalid("A test clock can only be advanced to a time in its future.", param="frozen_time")
    if until > clock["frozen_time"] + _MOST_AHEAD:
        raise Invalid("A test clock can be advanced by two years at most.", param="frozen_time")
    account.emit("test_helpers.test_clock.advancing", clock)
    due.advance(account, clock, until)
    account.emit("test_helpers.test_clock.ready", clock)
    return clock


def advance_everybody(account: Account, seconds: int) -> int:
    """Move the account's own time, for all customers without a clock. Gives the new time."""
    if seconds < 0:
        raise Invalid("Time only goes forward.", param="seconds")
    until = account.now() + seconds
    due.advance(account, None, until)
    account.settings["offset"] += seconds
    account.changed(account.settings)
    return until


def catch_up(account: Account) -> None:
    """Do what has fallen due by itself, as time passes."""
    due.advance(account, None, account.now())


def retrieve(account: Account, params: Thing, clock_id: str) -> Thing:
    return account.get("test_helpers.test_clock", clock_id)


def list_all(account: Account, params: Thing) -> Thing:
    return page(account, account.find("test_helpers.test_clock"), params, "/v1/test_helpers/test_clocks")


def delete(account: Account, params: Thing, clock_id: str) -> Thing:
    """With its customers and all that is theirs."""
    clock = account.get("test_helpers.test_clock", clock_id)
    customers = [each["id"] for each in account.find("customer", test_clock=clock_id)]
    for thing in account.everything():
        if thing["id"] in customers or thing.get("customer") in customers:
            account.remove(thing)
    account.remove(clock)
    return {"id": clock_id, "object": clock["object"], "deleted": True}
