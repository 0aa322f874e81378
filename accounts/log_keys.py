"""Keys of request logs: one an organization, random, and kept only as it is sealed under a master key.

`LOG_MASTER_KEYS` are the master keys: the first seals, all open. A destroyed key is gone for ever, and with
it whatever it sealed, wherever copies of that lie.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from django.conf import settings
from django.db import transaction

from accounts.models import LogKey, Organization
from aggregator.lib import clock, seal

_MASTER_DIGITS: Final = 16

_HELD = """
SELECT id, organization_id, wrapped, master, fingerprint FROM accounts_logkey
WHERE id = ANY(%s) AND destroyed_at IS NULL FOR SHARE
"""


class KeyLost(LookupError):
    """The log key was destroyed, or no master key that is set opens it."""


def masters() -> dict[str, bytes]:
    """The master keys by what names them, the one that seals first. Raises ValueError for a bad one."""
    found = {}
    for text in settings.LOG_MASTER_KEYS:
        key = seal.key_of(text)
        found[seal.fingerprint(key)[:_MASTER_DIGITS]] = key
    return found


def available() -> bool:
    """Whether there is a master key: without one nothing can be logged."""
    return bool(settings.LOG_MASTER_KEYS)


def living(organization_id: int) -> LogKey | None:
    return LogKey.objects.of(organization_id).filter(destroyed_at=None).first()


def make(organization: Organization) -> LogKey:
    """The living key, made where there is none. Inside a transaction that holds the organization's row."""
    found = living(organization.pk)
    if found is not None:
        return found
    key = seal.make_key()
    row = LogKey(organization=organization, fingerprint=seal.fingerprint(key))
    _wrap(row, key, organization.public_id)
    row.save(force_insert=True)
    return row


def hold(ids: Collection[int]) -> dict[int, LogKey]:
    """Those that live, by id, held against being destroyed until the transaction ends."""
    return {row.pk: row for row in LogKey.unscoped.raw(_HELD, [list(ids)])}


def opened(row: LogKey, organization: str) -> bytes:
    """The key itself; `organization` is the public id. Raises `KeyLost`."""
    master = masters().get(row.master)
    if row.wrapped is None or master is None:
        raise KeyLost("the log key was destroyed" if row.wrapped is None else "its master key is not set")
    try:
        return seal.unseal(master, bytes(row.wrapped), _place(row, organization))
    except seal.Unopened as error:
        raise KeyLost(str(error)) from error


def destroy(organization_id: int) -> list[str]:
    """Destroy every key of the organization, in this transaction; answers their fingerprints.

    Waits for whoever holds one, so that what they wrote is seen by the deletion that follows.
    """
    rows = list(LogKey.objects.of(organization_id).filter(destroyed_at=None).select_for_update())
    for row in rows:
        row.wrapped, row.destroyed_at = None, clock.now()
        row.save(update_fields=["wrapped", "destroyed_at"])
    return [row.fingerprint for row in rows]


def rewrap() -> int:
    """Seal every living key under the first master key, so that the others can be destroyed."""
    newest, count = next(iter(masters())), 0
    for pk in LogKey.unscoped.filter(destroyed_at=None).exclude(master=newest).values_list("pk", flat=True):
        with transaction.atomic():
            row = LogKey.unscoped.select_related("organization").select_for_update(of=("self",)).get(pk=pk)
            if row.destroyed_at is None:
                _wrap(row, opened(row, row.organization.public_id), row.organization.public_id)
                row.save(update_fields=["wrapped", "master"])
                count += 1
    return count


def _wrap(row: LogKey, key: bytes, organization: str) -> None:
    row.master, master = next(iter(masters().items()))
    row.wrapped = seal.seal(master, key, _place(row, organization))


def _place(row: LogKey, organization: str) -> bytes:
    return f"log key {row.fingerprint} of {organization}".encode()
