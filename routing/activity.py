"""What the calls of an organization, or of one of its members, can be filtered by."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from aggregator.lib import clock
from billing import statements

_MODEL_DAYS = 30


def models_used(organization_id: int, *, key_ids: Collection[int] | None = None) -> list[str]:
    """The models that served lately, by name, to filter by."""
    since = clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(days=_MODEL_DAYS)
    lines = statements.usage(organization_id, by="model", since=since, key_ids=key_ids)
    return sorted(line.name for line in lines if line.name)
