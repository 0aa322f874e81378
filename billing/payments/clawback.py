"""Credit that is taken back: by one at a time for each organization, and never more than is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection

from aggregator.lib.errors import unavailable
from billing import ledger, reserving
from billing.core.money import Nanos
from billing.models import Wallet


@contextmanager
def hold(organization_id: int, nanos: Nanos) -> Iterator[Nanos]:
    """Hold up to this much of the credit that no call has spent or holds. Raises Refusal 503.

    One after another for each organization: of two at once the second would find the credit held, and book
    as lost what the first gives back when it finds the second done.
    """
    name = [f"taking back {organization_id}"]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", name)
    except OperationalError as error:  # `lock_timeout`, or PostgreSQL is away
        raise unavailable("The account") from error
    try:
        if nanos:
            with reserving.credit(organization_id, nanos, at_most=True) as held:
                yield held
        else:
            yield 0
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", name)


def available(organization_id: int, wanted: Nanos) -> Nanos:
    """What of this the wallet itself can give, never what it may owe. Locks the wallet."""
    ledger.lock_wallets({organization_id})
    return max(0, min(wanted, Wallet.objects.of(organization_id).get().balance_nanos))
