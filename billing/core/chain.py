"""The chain of an organization's postings: each holds the hash of the one before it and of what it says.

Whoever changes, removes or slips in a posting behind our back breaks every hash after it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime

BEGINNING = b""
"""What stands before the first posting."""


def link(
    before: bytes,
    *,
    index: int,
    kind: str,
    source: str,
    source_id: str,
    note: str,
    created_at: datetime,
    expires_at: datetime | None,
    from_posting: int | None,
    entries: Mapping[tuple[str, int | None], int],
) -> bytes:
    """The hash of a posting whose predecessor has the hash `before`.

    What is hashed is JSON, so that no two contents can be spelled alike.
    """
    lines = sorted([account, owner or 0, nanos] for (account, owner), nanos in entries.items())
    said = json.dumps(
        [
            index,
            kind,
            source,
            source_id,
            note,
            _spelled(created_at),
            _spelled(expires_at),
            from_posting,
            lines,
        ],
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return hashlib.sha256(before + said.encode()).digest()


def _spelled(instant: datetime | None) -> str:
    """In UTC and with microseconds, as PostgreSQL keeps it: one instant has one spelling."""
    return "" if instant is None else instant.astimezone(UTC).isoformat(timespec="microseconds")
