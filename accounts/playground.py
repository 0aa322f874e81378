"""What the playground calls with: one key a member, opened by texts that end after fifteen minutes.

The key is one row, so that its calls stand together in the activity and on the bill, and so that its limit
holds over every tab and every day. No list of keys shows it, and its texts lie in pages' memory alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import IntegrityError, transaction

from accounts import audit, keys
from accounts.core import limits
from accounts.models import Key, KeySecret, Membership
from aggregator.lib import clock
from aggregator.lib.errors import Refusal

LASTS: Final = timedelta(minutes=15)
FIRST_LIMIT: Final = limits.NANOS_PER_USD
"""A day, until the person sets another."""
WINDOW: Final = "day"
_MOST_AN_HOUR: Final = 60
"""Sessions and renewals: some four an hour for each tab."""
_KEPT: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Session:
    text: str
    key: str
    """The key's public id."""
    expires_at: datetime
    limit_nanos: int | None
    """A day."""


def limit_of(held: Membership) -> int | None:
    """What this member's playground may spend a day, in nanos; None is no limit of its own."""
    key = _find(held)
    return FIRST_LIMIT if key is None else key.limit_nanos


def open_session(held: Membership) -> Session:
    """A text that calls models for fifteen minutes, on this member's key. Raises Refusal 429.

    What follows on a text that still works is a renewal, which the audit log does not repeat.
    """
    with transaction.atomic():
        key = Key.objects.of(held.organization_id).select_for_update().get(pk=_key(held).pk)
        now = clock.now()
        made = KeySecret.objects.filter(key=key)
        if made.filter(created_at__gt=now - timedelta(hours=1)).count() >= _MOST_AN_HOUR:
            raise Refusal(
                "too_many_sessions",
                "The playground was opened too often within the hour. Wait a few minutes, then go on.",
                status=429,
                retry_after=300,
            )
        expires_at = now + LASTS
        if not made.filter(expires_at__gt=now).exists():
            audit.record(held.organization_id, "playground.opened", by=held.user, object=key.public_id)
        text = keys.add_secret(key, expires_at=expires_at)
    return Session(text, key.public_id, expires_at, key.limit_nanos)


def set_limit(held: Membership, nanos: int | None) -> None:
    """What this member's playground may spend a day from now on; None is no limit. Raises Refusal 400."""
    keys.update(_key(held), by=held.user, limit_nanos=nanos)


def forget_ended() -> int:
    """Drop the fingerprints of texts that ended a day ago and more. Says how many."""
    ended = KeySecret.objects.filter(key__is_playground=True, expires_at__lt=clock.now() - _KEPT)
    return ended.delete()[0]


def _find(held: Membership) -> Key | None:
    rows = Key.objects.of(held.organization_id).filter(is_playground=True, created_by_id=held.user_id)
    return rows.exclude(state=Key.State.DELETED).first()


def _key(held: Membership) -> Key:
    found = _find(held)
    if found is not None:
        return found
    name = f"Playground ({held.user.get_short_name()})"[: limits.MOST_NAME]
    try:
        with transaction.atomic():
            return keys.create_for_playground(
                held.organization, held.user, name=name, limit_nanos=FIRST_LIMIT, limit_window=WINDOW
            )
    except IntegrityError:  # another tab was faster
        return Key.objects.of(held.organization_id).get(is_playground=True, created_by_id=held.user_id)
