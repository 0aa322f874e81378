"""What an organization allows with what it sends: which providers may see it, and whether it is logged here.

Every change is a row of its own. Keys carry what is in force, so a change raises the versions of all keys:
the gate then has every worker ask again at the next admission.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Final

from django.db import transaction

from accounts import audit, keyring, log_keys
from accounts.core import limits
from accounts.core.principal import DataPolicy, Logging
from accounts.models import DataPolicy as PolicyRow
from accounts.models import Key, Organization, RequestLogging
from aggregator.lib.errors import Refusal

MOST_PROVIDERS: Final = 200
_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True)
class LogRules:
    """Whether an organization's calls are logged, what of them, for how many days, and of which keys."""

    on: bool = False
    request: bool = True
    reply: bool = True
    days: int = 30
    keys: frozenset[int] | None = None
    """Ids; None is every key."""


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


def logging(organization_id: int, key_id: int) -> Logging | None:
    """What of a key's calls is logged now; None for nothing."""
    row = newest_logging(organization_id)
    if row is None or not row.on or (row.keys is not None and key_id not in row.keys):
        return None
    key = log_keys.living(organization_id)
    return None if key is None else Logging(key.pk, row.request, row.reply)


def newest_logging(organization_id: int) -> RequestLogging | None:
    """The row in force; None where logging was never switched on."""
    return RequestLogging.objects.of(organization_id).order_by("-id").first()


def log_rules(organization_id: int) -> LogRules:
    """What is in force, or what the page begins with."""
    row = newest_logging(organization_id)
    return LogRules() if row is None else _rules(row)


def set_logging(organization: Organization, wanted: LogRules, *, by: audit.Actor) -> bool:
    """Put rules of logging in force from the next admission on. False when they were already.

    Raises Refusal: 400 for what cannot be, 409 `logging_unavailable` without a master key.
    """
    _refuse_bad(organization, wanted)
    with transaction.atomic():
        held = Organization.objects.select_for_update().get(pk=organization.pk)
        before = log_rules(held.pk)
        if before == wanted or not (before.on or wanted.on):
            return False
        if wanted.on:
            log_keys.make(held)
        _write_down(held, wanted, before, by=by)
    return True


def switch_logging_off(organization_id: int, *, by: audit.Actor) -> None:
    """The rest of the rules stays as it is, for the day on which it is switched on again."""
    with transaction.atomic():
        held = Organization.objects.select_for_update().get(pk=organization_id)
        before = log_rules(held.pk)
        if before.on:
            _write_down(held, replace(before, on=False), before, by=by)


def _write_down(held: Organization, wanted: LogRules, before: LogRules, *, by: audit.Actor) -> None:
    """A row, new versions of the keys, an audit entry: inside the transaction that holds the organization."""
    said = asdict(wanted)
    if wanted.keys is not None:
        said["keys"] = sorted(wanted.keys)
    RequestLogging.objects.create(  # type: ignore[misc]  # the plugin takes **values for `organization`
        organization=held, set_by=audit.name(by)[:300], **said
    )
    keyring.raise_all(held)
    done = "changed" if before.on == wanted.on else "switched_on" if wanted.on else "switched_off"
    audit.record(held, f"request_logging.{done}", by=by, object="organization", detail=said)


def _refuse_bad(organization: Organization, wanted: LogRules) -> None:
    least, most = limits.LOG_DAYS
    if not least <= wanted.days <= most:
        raise Refusal("invalid_request", f"Logs are kept for {least} to {most} days.", param="days")
    if not (wanted.request or wanted.reply):
        raise Refusal("invalid_request", "Log requests, replies, or both.", param="kept")
    if wanted.keys is not None:
        own = Key.objects.of(organization).filter(pk__in=wanted.keys).count()
        if not wanted.keys or own != len(wanted.keys):
            raise Refusal("invalid_request", "Name keys of this organization.", param="keys")
    if wanted.on and not log_keys.available():
        raise Refusal(
            "logging_unavailable",
            "The operator has set no LOG_MASTER_KEYS: nothing can be sealed.",
            status=409,
        )


def _rules(row: RequestLogging) -> LogRules:
    keys = None if row.keys is None else frozenset(row.keys)
    return LogRules(on=row.on, request=row.request, reply=row.reply, days=row.days, keys=keys)


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
