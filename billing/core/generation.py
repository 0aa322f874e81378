"""The billing record of one call, as it travels: spool, receipt, PostgreSQL, pages.

Whole and self-explaining: with the price row it names, `charge_nanos` can be recomputed from it.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec

from aggregator.lib import ids

PREFIX = "gen-"

COMPLETED = "completed"
ABORTED = "aborted"
"""The client left, a deadline that it chose passed, or its stream broke when free endings had cost us enough
that day: the prompt and what was produced are charged."""
FAILED = "failed"
"""The provider's fault, or ours: free."""
VOID = "void"
"""Dispatched by a process that was killed: free."""


CHARGED = (COMPLETED, ABORTED)


class Generation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Field by field a row of `generations`; amounts in nanos, times in milliseconds."""

    id: uuid.UUID
    organization_id: int
    key_id: int
    status: str
    model_asked: str = ""
    model: str = ""
    endpoint: str = ""
    preference: str = ""
    streamed: bool = False
    finish_reason: str = ""
    native_finish_reason: str = ""
    estimated: bool = False
    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    image: int = 0
    audio: int = 0
    image_output: int = 0
    audio_output: int = 0
    price_id: int | None = None
    price_window: int = 0
    """Which window of the price row was charged, from 1; 0 is none."""
    price_tier: int = 0
    """Which of its tiers was charged, from 1; 0 is none."""
    markup: str = "0"
    """The mark-up as an exact decimal fraction."""
    parts: tuple[tuple[str, int, str], ...] = ()
    """(kind, units, exact nanos as a decimal string)."""
    base_nanos: int = 0
    charge_nanos: int = 0
    loss_nanos: int = 0
    """What a free ending cost us."""
    ttft_ms: int | None = None
    latency_ms: int = 0
    error_type: str = ""
    upstream_id: str = ""
    decision: dict[str, Any] = {}
    user_agent: str = ""
    end_user: str = ""
    """Whom the customer named as the user of the call."""
    ended_ms: int = 0
    """Unix milliseconds."""

    @property
    def public_id(self) -> str:
        return public_id(self.id)

    @property
    def ended_at(self) -> datetime:
        return datetime.fromtimestamp(self.ended_ms / 1000, tz=UTC)


COLUMNS = (*(name for name in Generation.__struct_fields__ if name != "ended_ms"), "ended_at")
"""The columns that a spool record fills; `spool` and `posting_id` are added by whoever writes the row."""


def public_id(generation_id: uuid.UUID) -> str:
    """`gen-` and the UUIDv7 in hexadecimal."""
    return PREFIX + generation_id.hex


_END_OF_TIME = ids.first_uuid7(datetime(9999, 12, 31, tzinfo=UTC))
"""Nobody can say when what lies beyond was made."""


def parse_public_id(text: str) -> uuid.UUID | None:
    """The id behind `gen-…`, or None when the text is not one."""
    if not text.startswith(PREFIX) or len(text) != len(PREFIX) + 32:
        return None
    try:
        found = uuid.UUID(hex=text[len(PREFIX) :])
    except ValueError:
        return None
    return found if found < _END_OF_TIME else None


def admitted_at(generation_id: uuid.UUID) -> datetime:
    """Budget windows and roll-up hours go by this."""
    return ids.uuid7_time(generation_id)


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Generation).decode
