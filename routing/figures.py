"""Where live figures lie in the cache: what each worker saw in each few seconds, and what all saw together.

A worker tells the running total of a stretch, never an increment: told twice, or late, it counts once. What
lies here may be gone at any moment; that costs figures, never a call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from aggregator.lib import kv
from routing.core.folds import Fold, Folds
from routing.core.health import Health
from routing.core.vitals import NOTHING, Snapshot

STRETCH_SECONDS = 5
KEPT_SECONDS = 900
"""How long a stretch lies there: so long may the job that reads it be away without a gap in the rows."""
SNAPSHOT_SECONDS = 60
HEAD = "vitals:head"
"""`version time`: moves with every look of the job, whether or not there was anything new."""
SNAPSHOT = "vitals:snapshot"
HEALTH = "vitals:health"
"""What is remembered of probes, by endpoint."""

_read_folds = msgspec.json.Decoder(Folds).decode
_read_snapshot = msgspec.json.Decoder(Snapshot).decode
_read_health = msgspec.json.Decoder(Health).decode
encode = msgspec.json.Encoder().encode


def stretch(unix_seconds: float) -> int:
    return int(unix_seconds // STRETCH_SECONDS)


def version(head: str | None) -> int:
    """Which snapshot `HEAD` names; 0 where there is none, or something that another has written there."""
    number = (head or "").partition(" ")[0]
    return int(number) if number.isascii() and number.isdecimal() and len(number) < 19 else 0


def key(number: int) -> str:
    """The hash of one stretch: who tells → what it saw."""
    return f"vitals:s:{number}"


def tell(pipeline: Any, number: int, teller: str, folds: Mapping[str, Fold]) -> None:
    pipeline.hset(key(number), teller, encode(folds))
    pipeline.expire(key(number), KEPT_SECONDS + STRETCH_SECONDS)


def read(told: Iterable[str | bytes]) -> list[Folds]:
    """What was told of a stretch; a teller of another release, whom nobody here understands, is left out."""
    found = []
    for text in told:
        try:
            found.append(_read_folds(text))
        except msgspec.DecodeError:
            continue
    return found


def snapshot(body: str | bytes | None) -> Snapshot:
    if body is None:
        return NOTHING
    try:
        return _read_snapshot(body)
    except msgspec.DecodeError:
        return NOTHING


def health(text: str | bytes | None) -> Health:
    if text is None:
        return Health()
    try:
        return _read_health(text)
    except msgspec.DecodeError:
        return Health()


def healths() -> dict[str, Health]:
    """What is remembered of probes, by endpoint slug. Raises kv.Failed."""
    found: dict[Any, Any] = kv.cache().hgetall(HEALTH)
    return {slug: health(text) for slug, text in found.items()}


def published() -> Snapshot:
    """What all gateways together have seen as of now, for pages and the management API.

    The empty one when nothing is there, or the cache cannot be reached.
    """
    try:
        return snapshot(kv.cache().get(SNAPSHOT))
    except kv.Failed:
        return NOTHING
