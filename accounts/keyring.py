"""The version of each key in force, as the gate knows it.

Every change of a key raises its version in PostgreSQL; right after the commit the version is
published here, in Redis, where the gate compares it at every admission. So a change is in force at
once on every worker, however long a worker remembers the key. A version that is absent means *ask
PostgreSQL*; it is never lowered, so a slow publisher cannot undo a newer one.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F
from kombu.exceptions import OperationalError as BrokerUnreachable

from accounts.core.principal import Principal
from accounts.models import Key, Organization
from aggregator.lib import jobs, kv

log = structlog.get_logger(__name__)

_LIFETIME_SECONDS: Final = 600

_RAISE = kv.Script("""
local held = tonumber(redis.call('GET', KEYS[1]) or '0')
local version = tonumber(ARGV[1])
if version < held then return held end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return version
""")


def lifetime_seconds() -> int:
    """Not shorter than a known key is served while PostgreSQL, which would publish again, is away."""
    return max(_LIFETIME_SECONDS, settings.KEY_STALE_SECONDS)


def place(key_public_id: str, organization_public_id: str) -> str:
    """Where the gate finds the version of a key."""
    return f"{kv.shard(organization_public_id)}:k:{key_public_id}"


def publish(key_public_id: str, organization_public_id: str, version: int) -> int:
    """Put a version in force, unless a newer one is; return the one in force."""
    return int(_RAISE.run([place(key_public_id, organization_public_id)], [version, lifetime_seconds()]))


def raise_all(organization: Organization) -> None:
    """Of what every key carries: raise their versions in this transaction, publish them after its commit.

    The caller holds the organization's row for update, so that no key is created beside it.
    """
    Key.objects.of(organization).exclude(state=Key.State.DELETED).update(version=F("version") + 1)
    transaction.on_commit(partial(_publish_or_enqueue, organization.pk))


def publish_all(organization_id: int) -> None:
    """Put in force what PostgreSQL holds for every key of an organization."""
    rows = Key.objects.of(organization_id).exclude(state=Key.State.DELETED)
    for public_id, organization, version in rows.values_list(
        "public_id", "organization__public_id", "version"
    ):
        publish(public_id, organization, version)


def _publish_or_enqueue(organization_id: int) -> None:
    try:
        publish_all(organization_id)
    except kv.Failed as error:
        # The change stands in PostgreSQL; what the gate holds is older, until the job gets through.
        log.error("key versions not published", organization=organization_id, error=str(error))
        try:
            jobs.enqueue("accounts.publish_keys", organization=organization_id)
        except BrokerUnreachable as lost:
            # Workers that ask PostgreSQL again (when their memory of a key ends) publish it.
            log.error("job not enqueued", job="accounts.publish_keys", error=str(lost))


def load(principal: Principal) -> int:
    """Publish the version that PostgreSQL holds for this principal's key, and return the one in force."""
    version = Key.unscoped.values_list("version", flat=True).get(pk=principal.key_id)
    return publish(principal.key, principal.organization, version)
