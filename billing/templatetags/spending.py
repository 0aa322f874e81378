"""`{% load spending %}`: what each key of a list was charged in the window of its limit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from django import template

from aggregator.lib import clock
from billing import spans
from billing.core import budgets

register = template.Library()


@register.simple_tag
def with_spending(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each with a `key`, joined by `used_nanos` and `percent` where the key has a limit.

    A statement for each kind of window there is.
    """
    now, by_window = clock.now(), defaultdict(list)
    for row in rows:
        if row["key"].limit_nanos is not None:
            by_window[row["key"].limit_window].append(row["key"])
    used: dict[int, int] = {}
    for kind, keys in by_window.items():
        since = budgets.window(kind, now).starts_at
        used |= spans.charged(keys[0].organization_id, since=since, key_ids=[key.pk for key in keys])
    return [{**row, **_share(row["key"].limit_nanos, used.get(row["key"].pk, 0))} for row in rows]


def _share(limit_nanos: int | None, used_nanos: int) -> dict[str, int]:
    if limit_nanos is None:
        return {}
    percent = min(100, 100 * used_nanos // limit_nanos) if limit_nanos else 100
    return {"used_nanos": used_nanos, "percent": percent}
