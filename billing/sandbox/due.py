"""What falls due as time passes: renewals, retries, ends, schedules; on a test clock or for everybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from billing.sandbox import checkout, invoices, prorations, schedules, subscriptions
from billing.sandbox.account import DAY, Account, shown
from billing.sandbox.periods import end_of_period
from billing.sandbox.refusals import Refused, Thing

UPCOMING_DAYS = 3
"""How long before a renewal `invoice.upcoming` comes."""
_INCOMPLETE_SECONDS = 23 * 60 * 60
_MOST_STEPS = 10_000

Job = tuple[int, int, Callable[[], None]]
"""When, which first of those at the same second, what."""


def advance(account: Account, clock: Thing | None, until: int) -> None:
    """Do in order all that falls due up to `until`, each at its own time; then let it be `until`."""
    try:
        for _ in range(_MOST_STEPS):
            job = min(_jobs(account, clock), key=lambda each: each[:2], default=None)
            if job is None or job[0] > until:
                break
            _set(account, clock, max(job[0], _time(account, clock)))
            job[2]()
        if clock is not None:
            _set(account, clock, until)
    finally:
        account.pretend(None)


def _time(account: Account, clock: Thing | None) -> int:
    return int(clock["frozen_time"]) if clock else account.now()


def _set(account: Account, clock: Thing | None, at: int) -> None:
    if clock is None:
        account.pretend(at)
    else:
        clock["frozen_time"] = at
        account.changed(clock)


def _jobs(account: Account, clock: Thing | None) -> Iterator[Job]:
    def mine(kind: str) -> Iterator[Thing]:
        return (each for each in account.find(kind) if account.clock_of(each["customer"]) is clock)

    for schedule in mine("subscription_schedule"):
        if schedule["status"] == "active":
            at = schedule["current_phase"]["end_date"]
            yield at, 0, partial(schedules.next_phase, account, schedule)
    for subscription in mine("subscription"):
        yield from _of_subscription(account, subscription)
    for invoice in mine("invoice"):
        if invoice["status"] == "draft" and invoice["automatically_finalizes_at"]:
            at = invoice["automatically_finalizes_at"]
            yield at, 2, partial(invoices.finalize, account, invoice, collect=True)
        elif invoice["status"] == "open" and invoice["next_payment_attempt"]:
            at = invoice["next_payment_attempt"]
            yield at, 3, partial(_retry, account, invoice)
    for intent in mine("payment_intent"):
        if intent["status"] == "processing":
            yield intent["_settles_at"], 4, partial(checkout.settle_later, account, intent)
    for session in mine("checkout.session"):
        if session["status"] == "open":
            at = session["expires_at"]
            yield at, 4, partial(checkout.close_unpaid, account, session)


def _of_subscription(account: Account, subscription: Thing) -> Iterator[Job]:
    status = subscription["status"]
    if status == "incomplete":
        at = subscription["created"] + _INCOMPLETE_SECONDS
        yield at, 1, lambda: subscriptions.expire(account, subscription)
    if status not in ("active", "past_due"):
        return
    ends = subscription["items"]["data"][0]["current_period_end"]
    if subscription["cancel_at"]:
        reason = "cancellation_requested"
        yield subscription["cancel_at"], 1, lambda: subscriptions.end(account, subscription, reason)
    yield ends, 2, lambda: renew(account, subscription)
    if subscription.get("_announced") != ends and not subscription["cancel_at"]:
        yield ends - UPCOMING_DAYS * DAY, 2, lambda: _announce(account, subscription, ends)


def _announce(account: Account, subscription: Thing, ends: int) -> None:
    subscription["_announced"] = ends
    account.changed(subscription)
    now = account.now(subscription["customer"])
    upcoming = prorations.preview(account, subscription, {}, now)
    account.emit("invoice.upcoming", upcoming)


def renew(account: Account, subscription: Thing) -> None:
    """The next period begins, and is charged at once; a failure makes the subscription past due."""
    before = shown(subscription["items"])
    anchor = subscription["billing_cycle_anchor"]
    for item in subscription["items"]["data"]:
        item["current_period_start"] = item["current_period_end"]
        item["current_period_end"] = end_of_period(
            anchor, item["current_period_start"], item["price"]["recurring"]
        )
    account.changed(subscription)
    invoice = subscriptions.bill(account, subscription, reason="subscription_cycle")
    account.emit("customer.subscription.updated", subscription, {"items": before})
    _collect(account, invoice)


def _retry(account: Account, invoice: Thing) -> None:
    _collect(account, invoice)
    subscription = invoices.subscription_of(account, invoice)
    if invoice["status"] != "open" or invoice["next_payment_attempt"] or subscription is None:
        return
    if subscription["status"] == "past_due":
        subscriptions.end(account, subscription, "payment_failed")


def _collect(account: Account, invoice: Thing) -> None:
    subscription = invoices.subscription_of(account, invoice)
    try:
        subscriptions.settle(account, invoice, off_session=True)
    except Refused:
        if subscription is not None and subscription["status"] == "active":
            subscription["status"] = "past_due"
            account.changed(subscription)
            account.emit("customer.subscription.updated", subscription, {"status": "active"})
