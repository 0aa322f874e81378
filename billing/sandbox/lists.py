"""Lists in pages, filters by time, and fields told whole instead of by id."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from billing.sandbox.account import Account, shown
from billing.sandbox.refusals import Invalid, Thing, missing

_DEFAULT, _MOST = 10, 100


def page(account: Account, things: Iterable[Thing], params: Thing, url: str) -> Thing:
    """One page of `things`, which come newest first."""
    limit = params.get("limit", _DEFAULT)
    if not 1 <= limit <= _MOST:
        raise Invalid(f"This value must be between 1 and {_MOST}.", param="limit")
    chosen = [thing for thing in things if _in_time(thing["created"], params.get("created"))]
    after, before = params.get("starting_after"), params.get("ending_before")
    for cursor, name in ((after, "starting_after"), (before, "ending_before")):
        if cursor and account.lookup(cursor) is None:
            raise missing("object", cursor, name)
    if after:
        chosen = [thing for thing in chosen if thing["_rank"] < _rank(account, after)]
    if before:
        chosen = [thing for thing in chosen if thing["_rank"] > _rank(account, before)][-limit:]
    return {
        "object": "list",
        "url": url,
        "has_more": len(chosen) > limit,
        "data": chosen[:limit],
    }


def inline(things: Iterable[Thing], url: str) -> Thing:
    """A list that is part of an object."""
    data = list(things)
    return {"object": "list", "url": url, "has_more": False, "total_count": len(data), "data": data}


def _rank(account: Account, found_id: str) -> int:
    found = account.lookup(found_id)
    return int(found["_rank"]) if found else 0


def _in_time(created: int, wanted: Thing | int | None) -> bool:
    if wanted is None:
        return True
    if isinstance(wanted, int):
        return created == wanted
    tests = {
        "gt": created > wanted.get("gt", 0),
        "gte": created >= wanted.get("gte", 0),
        "lt": created < wanted.get("lt", 0),
        "lte": created <= wanted.get("lte", 0),
    }
    return all(tests[name] for name in wanted)


# ── Telling whole what is told by id ─────────────────────────────────────────────────────────────


def told(account: Account, thing: Thing, expand: Iterable[str]) -> Thing:
    """A copy for the answer, with each path of `expand` told whole: `latest_charge.balance_transaction`."""
    answer: Thing = shown(thing)
    for path in expand:
        _expand(account, answer, path.split("."), path)
    return answer


def _expand(account: Account, inside: Any, steps: list[str], path: str) -> None:
    if isinstance(inside, list):
        for each in inside:
            _expand(account, each, steps, path)
        return
    if not steps or not isinstance(inside, dict):
        return
    name, rest = steps[0], steps[1:]
    if name not in inside:
        made = _included(account, inside, name)
        if made is None:
            raise Invalid(f"This property cannot be expanded ({path}).", param="expand[0]")
        inside[name] = shown(made)
    value = inside[name]
    whole = account.lookup(value)
    if whole is not None:
        inside[name] = shown(whole)
    _expand(account, inside[name], rest, path)


def _included(account: Account, thing: Thing, name: str) -> Thing | None:
    """Lists that an object tells only when asked."""
    kind, own_id = thing.get("object"), thing.get("id", "")
    if (kind, name) == ("invoice", "payments"):
        return inline(account.find("invoice_payment", invoice=own_id), "/v1/invoice_payments")
    if (kind, name) == ("charge", "refunds"):
        return inline(account.find("refund", charge=own_id), f"/v1/charges/{own_id}/refunds")
    if (kind, name) == ("customer", "subscriptions"):
        return inline(account.find("subscription", customer=own_id), "/v1/subscriptions")
    if (kind, name) == ("checkout.session", "line_items"):
        whole = account.lookup(own_id) or {}
        return inline(whole.get("_lines", []), f"/v1/checkout/sessions/{own_id}/line_items")
    return None
