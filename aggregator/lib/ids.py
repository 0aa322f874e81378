"""Ids that sort by time, and short public ids that say nothing."""

from __future__ import annotations

import math
import os
import secrets
import time
import uuid
from datetime import UTC, datetime

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def uuid7(unix_ms: int | None = None) -> uuid.UUID:
    """A UUIDv7 (RFC 9562 §5.7): 48 bits of Unix milliseconds, then 74 random bits."""
    stamp = (time.time_ns() // 1_000_000 if unix_ms is None else unix_ms) & (1 << 48) - 1
    value = stamp << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def uuid7_time(value: uuid.UUID) -> datetime:
    """When a UUIDv7 was made, to the millisecond, in UTC."""
    return datetime.fromtimestamp((value.int >> 80) / 1000, tz=UTC)


def first_uuid7(at: datetime) -> uuid.UUID:
    """Before every UUIDv7 of this instant, after every one before it."""
    return uuid.UUID(int=max(0, math.ceil(at.timestamp() * 1000)) << 80)


def base62(length: int) -> str:
    """`length` random characters, 5.95 bits each."""
    return "".join(secrets.choice(BASE62) for _ in range(length))
