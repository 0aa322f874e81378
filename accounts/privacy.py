"""What an organization allows with what it sends: which providers may see it.

Every change is a row of its own. Keys carry what is in force, so a change raises the versions of all keys:
the gate then has every worker ask again at the next admission.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from django.db import transaction

from accounts import audit, keyring
from accounts.models import DataPolicy as PolicyRow
from accounts.models import Organization
from accounts.principal import DataPolicy
from aggregator.lib.errors import Refusal

MOST_PROVIDERS: Final = 200
_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


def policy(organization_id: int) -> DataPolicy | None:
    """The data policy in force; None where everything is allowed."""
    row = newest_policy(organization_id)
    found = DataPolicy() if row is None else _read(row)
    return None if found == DataPolicy() else found


def newest_policy(organization_id: int) -> PolicyRow | None:
    """The row in force, which tells who set it and when."""
    return PolicyRow.objects.of(organization_id).order_by("-id").first()


def set_policy(organization: Organization, wanted: DataPolicy, *, by: audit.Actor) -> bool:
    """Put a data policy in force from the next admission on. False when it was in force already.

    Raises Refusal 400 for names that no provider can have, or too many.
    """
    for field, slugs in (("only", wanted.only or ()), ("ignore", wanted.ignore)):
        _refuse_strange(field, slugs)
    with transaction.atomic():
        # No key is created beside it: each would carry the older policy under a version of its own.
        held = Organization.objects.select_for_update().get(pk=organization.pk)
        before = policy(held.pk) or DataPolicy()
        if before == wanted:
            return False
        PolicyRow.objects.create(
            organization=held,
            no_training=wanted.no_training,
            zero_retention=wanted.zero_retention,
            only=None if wanted.only is None else sorted(wanted.only),
            ignore=sorted(wanted.ignore),
            set_by=audit.name(by)[:300],
        )
        keyring.raise_all(held)
        detail = {
            name: [_plain(getattr(before, name)), _plain(getattr(wanted, name))]
            for name in ("no_training", "zero_retention", "only", "ignore")
            if getattr(before, name) != getattr(wanted, name)
        }
        audit.record(held, "data_policy.changed", by=by, object="organization", detail=detail)
    return True


def _read(row: PolicyRow) -> DataPolicy:
    return DataPolicy(
        no_training=row.no_training,
        zero_retention=row.zero_retention,
        only=None if row.only is None else frozenset(row.only),
        ignore=frozenset(row.ignore),
    )


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else value


def _refuse_strange(field: str, slugs: Collection[str]) -> None:
    if len(slugs) > MOST_PROVIDERS:
        raise Refusal("invalid_request", f"{field} names more than {MOST_PROVIDERS} providers.", param=field)
    for slug in slugs:
        if not _SLUG.fullmatch(slug):
            raise Refusal("invalid_request", f"{field}: {slug[:60]!r} is no provider's slug.", param=field)
