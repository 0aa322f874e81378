"""Budgets that have just refused a call, or cut one: from the gateways, by the caches, to the job that tells.

A budget may refuse though less than its limit is used, since the next call no longer fits. A mark is a
hint, never a fact: lost with a process or the caches, it comes back with the next refusal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from aggregator.lib import kv
from billing.core.budgets import Account

_KEY: Final = "budgets:refused"
_KEPT_SECONDS: Final = 3600
_MOST_WAITING: Final = 10_000
_AT_ONCE: Final = 1_000

_waiting: dict[str, None] = {}
"""Of this process, until the caches have them; in order."""


class Mark(NamedTuple):
    organization_id: int
    account: str
    """As `billing.core.budgets` names it."""


def note(account: Account) -> None:
    """This account has refused or cut a call. A wallet has no window, and is no budget."""
    if account.window is not None and len(_waiting) < _MOST_WAITING:
        _waiting[f"{account.organization_id} {account.name}"] = None


def tell(pipeline: Any) -> list[str]:
    """Add to a pipeline of the caches what they do not have yet; give what it answers to `told` then."""
    marks = list(_waiting)[:_AT_ONCE]
    if marks:
        pipeline.sadd(_KEY, *marks)
        pipeline.expire(_KEY, _KEPT_SECONDS)
    return marks


def told(marks: Iterable[str]) -> None:
    for mark in marks:
        _waiting.pop(mark, None)


def take(most: int = _MOST_WAITING) -> list[Mark]:
    """What the caches have, which forget it; nothing while they are away."""
    try:
        found = kv.cache().spop(_KEY, most)
    except kv.Failed:
        return []
    split = (str(mark).partition(" ") for mark in found or ())
    return [Mark(int(organization_id), account) for organization_id, _, account in split]
