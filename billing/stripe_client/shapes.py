"""How fields of Stripe's objects are read: an id that may be expanded, a time, what metadata says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def id_of(field: Any) -> str:
    """The id in a field that holds an id, a whole object or nothing; nothing is an empty text."""
    if field is None or isinstance(field, str):
        return field or ""
    return str(field.id)


def time_of(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def metadata_of(field: Any) -> Mapping[str, str]:
    return {} if field is None else {str(name): str(value) for name, value in field.to_dict().items()}
