"""How full the budgets and caps of keys are that calls have drawn on lately, of all organizations at once.

One statement, over roll-ups by days: every window begins with a day. What is not posted yet comes with the
next look, and what calls under way hold is the gate's. Pages read one organization by `billing.limits`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection

from accounts.models import Key, Membership, Organization
from billing.core import budgets
from billing.core.budgets import Window
from billing.core.money import Nanos
from billing.refused import Mark

KINDS: Final[Mapping[str, str]] = {
    budgets.ORGANIZATION: "organization",
    budgets.MEMBER: "member",
    budgets.END_USER: "end_user",
    budgets.KEY: "key",
}
"""How an account's name begins → what the API and the rows of `Budget` call it."""
KEY_THRESHOLDS: Final = (80, 100)
"""In percent of a key's cap: a cap has none of its own."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One account of the gate in its present window, as PostgreSQL has it."""

    organization_id: int
    account: str
    """As `billing.core.budgets` names it."""
    budget: str
    """`bud_…`, or `key_…` of a key's cap."""
    user_id: int | None
    """The member whose budget it is; of a cap, who made the key."""
    end_user: str
    window: Window
    limit_nanos: Nanos
    thresholds: tuple[int, ...]
    used_nanos: Nanos
    told: frozenset[int] = frozenset()
    """Percents of this limit that people were told of."""

    @property
    def kind(self) -> str:
        """One of the values of KINDS."""
        return KINDS[self.account.partition(":")[0]]

    @property
    def left_nanos(self) -> Nanos:
        return max(self.limit_nanos - self.used_nanos, 0)

    @property
    def percent(self) -> int:
        """Rounded down, so that 100 is never said too early. Of nothing, everything is used."""
        return 100 * self.used_nanos // self.limit_nanos if self.limit_nanos else 100

    def reaches(self, percent: int) -> bool:
        return 100 * self.used_nanos >= percent * self.limit_nanos


# Whose calls were posted since then, and who is marked; then each of their budgets and caps. A budget of one
# person or end user stands in place of the one for each of them.
_TOUCHED: Final = """
WITH posted AS MATERIALIZED (
    SELECT * FROM (
        SELECT organization_id, min(id) AS first_posting, min(source_id)::uuid AS first_call
        FROM billing_posting WHERE kind = 'usage' AND created_at >= %(posted_since)s GROUP BY organization_id
    ) AS busy
    WHERE EXISTS (SELECT FROM billing_budget AS budget
                  WHERE budget.organization_id = busy.organization_id AND deleted_at IS NULL)
       OR EXISTS (SELECT FROM accounts_key AS made
                  WHERE made.organization_id = busy.organization_id AND limit_nanos > 0
                    AND state <> 'deleted')
), touched AS MATERIALIZED (
    SELECT DISTINCT posted.organization_id, key_id, end_user
    FROM posted JOIN generations AS call ON call.organization_id = posted.organization_id
         AND call.id >= first_call AND posting_id >= first_posting
), marked (organization_id, public_id, user_id, end_user) AS MATERIALIZED (
    SELECT * FROM unnest(%(mark_organizations)s::bigint[], %(mark_keys)s::text[], %(mark_users)s::bigint[],
                         %(mark_end_users)s::text[])
), organizations AS (
    SELECT organization_id FROM posted UNION SELECT organization_id FROM marked
), people AS (
    SELECT made.organization_id, made.created_by_id AS user_id
    FROM touched JOIN accounts_key AS made ON made.id = touched.key_id
    WHERE made.created_by_id IS NOT NULL
    UNION SELECT organization_id, user_id FROM marked WHERE user_id IS NOT NULL
), end_users AS (
    SELECT organization_id, end_user FROM touched WHERE end_user <> ''
    UNION SELECT organization_id, end_user FROM marked WHERE end_user <> ''
), keys AS (
    SELECT key_id FROM touched
    UNION SELECT made.id FROM marked JOIN accounts_key AS made USING (organization_id, public_id)
), windows (kind, label, since) AS MATERIALIZED (
    SELECT * FROM unnest(%(kinds)s::text[], %(labels)s::text[], %(since)s::timestamptz[])
), live AS MATERIALIZED (
    SELECT budget.*, owner.public_id AS owner, label, since
    FROM billing_budget AS budget JOIN windows ON windows.kind = budget."window"
         JOIN accounts_organization AS owner ON owner.id = budget.organization_id
    WHERE deleted_at IS NULL AND budget.organization_id IN (SELECT organization_id FROM organizations)
), read AS (
    SELECT organization_id, 'budget:' || owner || ':' || label AS account, public_id AS budget,
           NULL::bigint AS user_id, '' AS end_user, "window" AS kind, limit_nanos, thresholds,
           (SELECT coalesce(sum(charge_nanos), 0) FROM billing_usagespan AS span
            WHERE span.organization_id = live.organization_id AND hours = 24 AND start >= since) AS used
    FROM live WHERE live.kind = 'organization'
    UNION ALL
    SELECT organization_id, 'member:' || owner || '/' || people.user_id || ':' || label, public_id,
           people.user_id, '', "window", limit_nanos, thresholds,
           (SELECT coalesce(sum(charge_nanos), 0) FROM accounts_key AS made
            JOIN billing_usagespan AS span ON span.key_id = made.id AND hours = 24 AND start >= since
            WHERE made.organization_id = live.organization_id AND made.created_by_id = people.user_id)
    FROM live JOIN people USING (organization_id)
    WHERE live.kind = 'member'
      AND (live.member_id = people.user_id OR live.member_id IS NULL AND NOT EXISTS (
        SELECT FROM live AS own WHERE own.kind = 'member' AND own.organization_id = live.organization_id
            AND own."window" = live."window" AND own.member_id = people.user_id))
    UNION ALL
    SELECT organization_id, 'user:' || owner || ':' || label || ':' || end_users.end_user, public_id,
           NULL, end_users.end_user, "window", limit_nanos, thresholds,
           (SELECT coalesce(sum(charge_nanos), 0) FROM billing_enduserday AS spent
            WHERE spent.organization_id = live.organization_id AND spent.end_user = end_users.end_user
              AND day >= (since AT TIME ZONE 'UTC')::date)
    FROM live JOIN end_users USING (organization_id)
    WHERE live.kind = 'end_user'
      AND (live.end_user = end_users.end_user OR live.end_user = '' AND NOT EXISTS (
        SELECT FROM live AS own WHERE own.kind = 'end_user' AND own.organization_id = live.organization_id
            AND own."window" = live."window" AND own.end_user = end_users.end_user))
    UNION ALL
    SELECT made.organization_id, 'key:' || made.public_id || ':' || label, made.public_id,
           made.created_by_id, '', limit_window, made.limit_nanos, %(key_thresholds)s::smallint[],
           (SELECT coalesce(sum(charge_nanos), 0) FROM billing_usagespan AS span
            WHERE span.key_id = made.id AND hours = 24 AND start >= since)
    FROM keys JOIN accounts_key AS made ON made.id = keys.key_id
         JOIN windows ON windows.kind = made.limit_window
    WHERE made.limit_nanos IS NOT NULL AND made.state <> 'deleted'
)
SELECT organization_id, account, budget, user_id, end_user, kind, limit_nanos, thresholds, used::bigint,
       ARRAY(SELECT percent FROM billing_budgetalert AS alert
             WHERE alert.organization_id = read.organization_id AND alert.account = read.account
               AND alert.limit_nanos >= read.limit_nanos)
FROM read
WHERE limit_nanos > 0 AND cardinality(thresholds) > 0
  AND (100 * used >= thresholds[1] * limit_nanos OR account = ANY(%(marked)s))
"""


def touched(since: datetime, marks: Sequence[Mark], *, at: datetime) -> list[Reading]:
    """Those that calls posted since then drew on, or that have refused one: where the least threshold is
    reached, and the marked ones whatever they have used."""
    named = [(mark, budgets.named(mark.account)) for mark in marks]
    asked: dict[str, Any] = {
        "posted_since": since,
        "marked": [mark.account for mark in marks],
        "mark_organizations": [mark.organization_id for mark in marks],
        "mark_keys": [name.owner if name.kind == budgets.KEY else "" for _, name in named],
        "mark_users": [name.member_id for _, name in named],
        "mark_end_users": [name.end_user for _, name in named],
    }
    windows = {kind: budgets.window(kind, at) for kind in budgets.WINDOWS}
    asked |= {
        "kinds": list(windows),
        "labels": [window.label for window in windows.values()],
        "since": [window.starts_at for window in windows.values()],
        "key_thresholds": list(KEY_THRESHOLDS),
    }
    with connection.cursor() as cursor:
        cursor.execute(_TOUCHED, asked)
        return [
            Reading(
                *(owner, account, budget, user, end_user, windows[kind], limit, tuple(percents), used),
                told=frozenset(told),
            )
            for owner, account, budget, user, end_user, kind, limit, percents, used, told in cursor.fetchall()
        ]


def names(organization_id: int, accounts: Iterable[str]) -> dict[str, str]:
    """Whose each account is, by its name: a person's address, a key's name, whom calls name as their user;
    the organization's own name. Who or what is gone has none."""
    named = {account: budgets.named(account) for account in accounts}
    owners = [name.owner for name in named.values() if name.kind == budgets.KEY]
    keys = dict(Key.objects.of(organization_id).filter(public_id__in=owners).values_list("public_id", "name"))
    people = emails(
        organization_id, [name.member_id for name in named.values() if name.member_id is not None]
    )
    own = Organization.objects.get(pk=organization_id).name

    def words(name: budgets.Named) -> str:
        if name.kind == budgets.ORGANIZATION:
            return own
        if name.kind == budgets.KEY:
            return keys.get(name.owner, "")
        return name.end_user or people.get(name.member_id or 0, "")

    return {account: words(name) for account, name in named.items()}


def emails(organization_id: int, user_ids: Iterable[int]) -> dict[int, str]:
    """Of those who are members."""
    held = Membership.objects.of(organization_id).filter(user_id__in=set(user_ids), user__is_active=True)
    return dict(held.values_list("user_id", "user__email"))
