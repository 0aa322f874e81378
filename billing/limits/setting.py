"""Budgets: set, changed, deleted, and which of them a key's calls draw on.

Every change raises the organization's `budgets_version` and the versions of all its keys in one transaction,
so it is in force at the next admission, everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import F, QuerySet

from accounts import audit, keyring
from accounts.core.principal import Budgets, Principal
from accounts.models import Membership, Organization, User
from aggregator.lib import clock, ids
from aggregator.lib.errors import Refusal
from billing.core.money import MOST_NANOS, Nanos
from billing.models import Budget

KINDS: Final = (Budget.Kind.ORGANIZATION, Budget.Kind.MEMBER, Budget.Kind.END_USER)
WINDOWS: Final = (Budget.Window.DAY, Budget.Window.WEEK, Budget.Window.MONTH, Budget.Window.TOTAL)
MOST_BUDGETS: Final = 10_000
"""Of one organization, those of single end users included."""
MOST_END_USER: Final = 256
"""Characters of an end user's name, as in `user` of a request."""
MOST_THRESHOLDS: Final = 10
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def live(organization_id: int) -> QuerySet[Budget]:
    """The budgets in force: of the organization, of members, of end users; general ones before others."""
    rows = Budget.objects.of(organization_id).filter(deleted_at=None).select_related("member")
    return rows.order_by("-kind", F("member__email").asc(nulls_first=True), "end_user", "window")


def find(organization_id: int, public_id: str) -> Budget | None:
    """A budget in force."""
    return live(organization_id).filter(public_id=public_id).first()


def set_budget(
    organization: Organization,
    *,
    kind: str,
    window: str,
    limit_nanos: Nanos,
    member: User | None = None,
    end_user: str = "",
    thresholds: Collection[int] = (50, 80, 100),
    by: audit.Actor,
) -> Budget:
    """Put a budget in force. Without `member` or `end_user`, each of them has it.

    Raises Refusal: 400 naming what cannot be, 409 `budget_exists` if there is one for the same.
    """
    _refuse_subject(organization, kind, member, end_user)
    if window not in WINDOWS:
        raise _wrong("window", f"must be one of {', '.join(WINDOWS)}")
    said = _checked(limit_nanos, thresholds)
    with transaction.atomic():
        held = _raised(organization.pk)
        rows = Budget.objects.of(held).filter(deleted_at=None)
        if rows.filter(kind=kind, window=window, member=member, end_user=end_user).exists():
            raise Refusal("budget_exists", "There is such a budget already: change that one.", status=409)
        if rows.count() >= MOST_BUDGETS:
            raise Refusal("invalid_request", f"There are {MOST_BUDGETS} budgets, the most there may be.")
        made = Budget.objects.create(  # type: ignore[misc]  # the plugin takes **values for `organization`
            organization=held,
            public_id=f"bud_{ids.base62(16)}",
            kind=kind,
            window=window,
            member=member,
            end_user=end_user,
            created_by=by if isinstance(by, User) else None,
            **said,
        )
        audit.record(held, "budget.set", by=by, object=made.public_id, detail=_words(made))
    return made


def change(
    budget: Budget,
    *,
    limit_nanos: Nanos | None = None,
    thresholds: Collection[int] | None = None,
    by: audit.Actor,
) -> Budget:
    """Give a budget another limit or other thresholds. Nothing different is nothing done.

    Raises Refusal: 400 naming what cannot be, 409 `budget_deleted`.
    """
    said = _checked(
        budget.limit_nanos if limit_nanos is None else limit_nanos,
        budget.thresholds if thresholds is None else thresholds,
    )
    with transaction.atomic():
        organization, held = _locked(budget)
        before = _words(held)
        if {name: getattr(held, name) for name in said} == said:
            return held
        for name, value in said.items():
            setattr(held, name, value)
        held.save(update_fields=list(said))
        changed = {name: [before[name], now] for name, now in _words(held).items() if before[name] != now}
        if "limit_nanos" in changed:
            _raised(organization.pk)
        audit.record(organization, "budget.changed", by=by, object=held.public_id, detail=changed)
    return held


def delete(budget: Budget, *, by: audit.Actor) -> None:
    """End a budget; its row stays. Raises Refusal 409 `budget_deleted`."""
    with transaction.atomic():
        organization, held = _locked(budget)
        held.deleted_at = clock.now()
        held.save(update_fields=["deleted_at"])
        _raised(organization.pk)
        audit.record(organization, "budget.deleted", by=by, object=held.public_id, detail=_words(held))


def applying(principal: Principal) -> Budgets | None:
    """In which windows the calls of a key draw on budgets; None without any. Ask after the key was read."""
    asked = {"organization": principal.organization_id, "member": principal.member_id}
    with connection.cursor() as cursor:
        cursor.execute(_APPLYING, asked)
        rows = cursor.fetchall()
    if not rows:
        return None
    windows: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for _, kind, window in rows:
        windows[kind].append(window)
    return Budgets(rows[0][0], *(tuple(windows[kind]) for kind in KINDS))


_APPLYING: Final = """
SELECT DISTINCT organization.budgets_version, budget.kind, budget."window"
FROM accounts_organization AS organization
JOIN billing_budget AS budget ON budget.organization_id = organization.id AND budget.deleted_at IS NULL
WHERE organization.id = %(organization)s
  AND (budget.kind <> 'member'
       OR %(member)s::bigint IS NOT NULL AND coalesce(budget.member_id, %(member)s) = %(member)s)
ORDER BY 2, 3
"""


def _raised(organization_id: int) -> Organization:
    """Held until the transaction ends, with new versions for its budgets and its keys.

    No key is created beside it: each would carry the older budgets under a version of its own.
    """
    held = Organization.objects.select_for_update().get(pk=organization_id)
    held.budgets_version += 1
    held.save(update_fields=["budgets_version"])
    keyring.raise_all(held)
    return held


def _locked(budget: Budget) -> tuple[Organization, Budget]:
    organization = Organization.objects.select_for_update().get(pk=budget.organization_id)
    held = Budget.objects.of(organization).get(pk=budget.pk)
    if held.deleted_at is not None:
        raise Refusal("budget_deleted", "This budget was deleted; it cannot be changed.", status=409)
    return organization, held


def _refuse_subject(organization: Organization, kind: str, member: User | None, end_user: str) -> None:
    if kind not in KINDS:
        raise _wrong("kind", f"must be one of {', '.join(KINDS)}")
    if member is not None:
        if kind != Budget.Kind.MEMBER:
            raise _wrong("member", "belongs to budgets of kind member")
        if not Membership.objects.of(organization).filter(user=member).exists():
            raise _wrong("member", "must be a member of this organization")
    if end_user:
        if kind != Budget.Kind.END_USER:
            raise _wrong("end_user", "belongs to budgets of kind end_user")
        if len(end_user) > MOST_END_USER or _UNPRINTABLE.search(end_user):
            raise _wrong("end_user", f"must have at most {MOST_END_USER} characters, none of them control")


def _checked(limit_nanos: Nanos, thresholds: Collection[int]) -> dict[str, Any]:
    """Both as they will be stored."""
    if not 0 <= limit_nanos <= MOST_NANOS:
        raise _wrong("limit", "must lie between 0 and 9007199 dollars")
    if len(thresholds) > MOST_THRESHOLDS or not all(1 <= percent <= 100 for percent in thresholds):
        raise _wrong("thresholds", f"must be at most {MOST_THRESHOLDS} percentages from 1 to 100")
    return {"limit_nanos": limit_nanos, "thresholds": sorted(set(thresholds))}


def _words(budget: Budget) -> dict[str, Any]:
    """What the audit log says of it."""
    said: dict[str, Any] = {
        "kind": budget.kind,
        "window": budget.window,
        "limit_nanos": budget.limit_nanos,
        "thresholds": ", ".join(f"{percent} %" for percent in budget.thresholds),
    }
    if budget.member_id is not None:
        said["member"] = User.objects.values_list("email", flat=True).get(pk=budget.member_id)
    if budget.end_user:
        said["end_user"] = budget.end_user
    return said


def _wrong(field: str, what: str) -> Refusal:
    return Refusal("invalid_request", f"{field} {what}", param=field, metadata={"reason": what})
