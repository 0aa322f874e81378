"""Ids that sort by time, and short public ids that say nothing."""

from __future__ import annotations

import math
import os
import secrets
import time
import uuid
from datetime import UTC, datetime

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


_latest = (-1, 0)
"""The millisecond that ids were last made for, and how many."""


def uuid7(unix_ms: int | None = None) -> uuid.UUID:
    """A UUIDv7: 48 bits of Unix milliseconds, 12 that count (RFC 9562 §6.2, method 1), 62 random ones.

    Of what one process writes within a millisecond, too, the first sorts first: up to 2,048 ids surely."""
    global _latest
    stamp = (time.time_ns() // 1_000_000 if unix_ms is None else unix_ms) & (1 << 48) - 1
    drawn = int.from_bytes(os.urandom(10), "big")
    last, count = _latest
    count = min(count + 1, 0xFFF) if stamp == last else drawn >> 69
    _latest = stamp, count
    return uuid.UUID(int=stamp << 80 | 0x7 << 76 | count << 64 | 0x2 << 62 | drawn & (1 << 62) - 1)


def uuid7_time(value: uuid.UUID) -> datetime:
    """When a UUIDv7 was made, to the millisecond, in UTC."""
    return datetime.fromtimestamp((value.int >> 80) / 1000, tz=UTC)


def first_uuid7(at: datetime) -> uuid.UUID:
    """Before every UUIDv7 of this instant, after every one before it."""
    return uuid.UUID(int=max(0, math.ceil(at.timestamp() * 1000)) << 80)


def base62(length: int) -> str:
    """`length` random characters, 5.95 bits each."""
    return "".join(secrets.choice(BASE62) for _ in range(length))
