"""What PostgreSQL says of an account of the gate, each in one statement, which is one snapshot.

    a wallet    balance + credit limit - unposted generations + tallies of the spools that are still open
    a budget    limit - what was posted in its window - unposted generations of it + those tallies

What was posted stands in the roll-ups by days, or by months where a window begins and ends with one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connection

from billing.core import budgets
from billing.core.budgets import Account
from billing.core.money import MOST_NANOS
from billing.core.sums import MONTH_HOURS

_END: Final = datetime(9000, 1, 1, tzinfo=UTC)

_TALLIES = """
       (SELECT coalesce(array_agg(spool::text || ' ' || nanos), '{}')
        FROM tallies WHERE account = %(account)s),
       ARRAY(SELECT x::text FROM unnest(%(listed)s::uuid[]) x
             WHERE NOT EXISTS (SELECT 1 FROM spools WHERE id = x))
"""
_WALLET_SNAPSHOT = f"""
SELECT w.balance_nanos + w.credit_limit_nanos
       - coalesce((SELECT sum(charge_nanos) FROM generations
                   WHERE organization_id = w.organization_id AND posting_id IS NULL), 0)
       + coalesce((SELECT sum(nanos) FROM tallies WHERE account = %(account)s), 0),
       w.terms_version, NULL, {_TALLIES}
FROM billing_wallet w WHERE w.organization_id = %(organization)s
"""  # noqa: S608 (only constants are put together)
_KEY_SNAPSHOT = f"""
SELECT coalesce(k.limit_nanos, {MOST_NANOS})
       - coalesce((SELECT sum(charge_nanos) FROM billing_usagespan
                   WHERE key_id = k.id AND hours = %(hours)s AND start >= %(since)s AND start < %(until)s), 0)
       - coalesce((SELECT sum(charge_nanos) FROM generations
                   WHERE key_id = k.id AND posting_id IS NULL
                     AND id >= uuid7_from(%(since)s) AND id < uuid7_from(%(until)s)), 0)
       + coalesce((SELECT sum(nanos) FROM tallies WHERE account = %(account)s), 0),
       k.version, k.limit_nanos, {_TALLIES}
FROM accounts_key k WHERE k.id = %(key)s
"""  # noqa: S608

# A budget of an organization. That of one member or end user stands in place of the one for each of them.
_BUDGET = f"""
SELECT coalesce(b.limit_nanos, {MOST_NANOS})
       - coalesce((SELECT sum(charge_nanos) FROM {{posted}}), 0)
       - coalesce((SELECT sum(charge_nanos) FROM generations
                   WHERE organization_id = o.id AND posting_id IS NULL {{of_whom}}
                     AND id >= uuid7_from(%(since)s) AND id < uuid7_from(%(until)s)), 0)
       + coalesce((SELECT sum(nanos) FROM tallies WHERE account = %(account)s), 0),
       o.budgets_version, b.limit_nanos, {_TALLIES.replace("{}", "{{}}")}
FROM accounts_organization o
LEFT JOIN LATERAL (
    SELECT limit_nanos FROM billing_budget
    WHERE organization_id = o.id AND kind = %(kind)s AND "window" = %(window)s AND deleted_at IS NULL
      AND (member_id = %(member)s OR member_id IS NULL) AND end_user IN (%(end_user)s, '')
    ORDER BY member_id IS NULL, end_user = '' LIMIT 1
) b ON true
WHERE o.id = %(organization)s
"""  # noqa: S608
_OF_MEMBER = """
    AND key_id IN (SELECT id FROM accounts_key WHERE organization_id = o.id AND created_by_id = %(member)s)
"""
_ORGANIZATION_SNAPSHOT = _BUDGET.format(
    posted="billing_endpointspan WHERE organization_id = o.id AND hours = %(hours)s"
    " AND start >= %(since)s AND start < %(until)s",
    of_whom="",
)
_MEMBER_SNAPSHOT = _BUDGET.format(
    posted="billing_usagespan WHERE organization_id = o.id AND hours = %(hours)s"
    f" AND start >= %(since)s AND start < %(until)s {_OF_MEMBER}",
    of_whom=_OF_MEMBER,
)
_END_USER_SNAPSHOT, _END_USER_DAYS_SNAPSHOT = (
    _BUDGET.format(
        posted=f"billing_enduser{span} WHERE organization_id = o.id AND end_user = %(end_user)s"
        f" AND {span} >= %(first)s AND {span} < %(last)s",
        of_whom="AND end_user = %(end_user)s",
    )
    for span in ("month", "day")
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one statement read of an account; `version` is of the terms, of the key, or of the budgets."""

    credit: int
    version: int
    tallies: dict[str, int]
    closed: tuple[str, ...]
    """Of the spools listed, those whose row is gone."""
    limit: int | None = None
    """Of a budget; None where there is none (any more), and of a wallet."""


def snapshot(account: Account, listed: Sequence[str]) -> Snapshot | None:
    """None when PostgreSQL does not know the account."""
    values: dict[str, Any] = {
        "account": account.name,
        "organization": account.organization_id,
        "listed": list(listed),
        "key": account.key_id,
        "member": account.member_id,
        "end_user": account.end_user,
    }
    if account.window is not None:
        since, until = account.window.starts_at, account.window.ends_at or _END
        values |= {"since": since, "until": until, "first": since.date(), "last": until.date()}
        values |= {"kind": _KINDS.get(account.kind), "window": account.window.kind}
        values["hours"] = _hours(account)
    with connection.cursor() as cursor:
        cursor.execute(_statement(account), values)
        row = cursor.fetchone()
    if row is None:
        return None
    credit, version, limit, tallied, closed = row
    tallies = {spool: int(nanos) for spool, nanos in (tally.split(" ") for tally in tallied)}
    return Snapshot(int(credit), int(version), tallies, tuple(closed), limit)


_KINDS = {
    budgets.ORGANIZATION: "organization",
    budgets.MEMBER: "member",
    budgets.END_USER: "end_user",
}
"""How the rows of `Budget` call them."""


def _hours(account: Account) -> int:
    """How long the spans are that a window is made of. One without an end begins before every month."""
    in_months = account.window is not None and account.window.kind in ("month", "total")
    return MONTH_HOURS if in_months else 24


def _statement(account: Account) -> str:
    if account.window is None:
        return _WALLET_SNAPSHOT
    if account.kind == budgets.KEY:
        return _KEY_SNAPSHOT
    if account.kind == budgets.MEMBER:
        return _MEMBER_SNAPSHOT
    if account.kind == budgets.END_USER:
        return _END_USER_SNAPSHOT if _hours(account) == MONTH_HOURS else _END_USER_DAYS_SNAPSHOT
    return _ORGANIZATION_SNAPSHOT
