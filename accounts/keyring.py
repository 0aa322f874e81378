"""The version of each key in force, as the gate knows it.

Every change of a key raises its version in PostgreSQL; right after the commit the version is
published here, in Redis, where the gate compares it at every admission. So a change is in force at
once on every worker, however long a worker remembers the key. A version that is absent means *ask
PostgreSQL*; it is never lowered, so a slow publisher cannot undo a newer one.
"""

from __future__ import annotations

from typing import Final

from django.conf import settings

from accounts.models import Key
from accounts.principal import Principal
from aggregator.lib import kv

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


def load(principal: Principal) -> int:
    """Publish the version that PostgreSQL holds for this principal's key, and return the one in force."""
    version = Key.unscoped.values_list("version", flat=True).get(pk=principal.key_id)
    return publish(principal.key, principal.organization, version)
