"""Keys on the wire of the management API: what may be sent, and what is answered."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from accounts.core import limits
from accounts.models import Key, KeySecret
from aggregator.lib.errors import Refusal

Reset = Literal["daily", "weekly", "monthly"]
Amount = Decimal
"""Dollars, as a number or as text; both are read digit for digit."""
Name = Annotated[str, Meta(min_length=1, max_length=limits.MOST_NAME)]
PerMinute = Annotated[int, Meta(ge=1, le=limits.MOST_REQUESTS_PER_MINUTE)]
Moment = Annotated[datetime, Meta(tz=True)]
Models = Annotated[list[str], Meta(max_length=limits.MOST_MODELS)]

_WINDOWS: Final = {None: "total", "daily": "day", "weekly": "week", "monthly": "month"}
RESETS: Final = {window: reset for reset, window in _WINDOWS.items()}
"""A window of a spend limit → its name on the wire."""


class NewKey(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The body of `POST /keys`."""

    name: Name
    limit: Amount | UnsetType | None = UNSET
    limit_reset: Reset | UnsetType | None = UNSET
    expires_at: Moment | UnsetType | None = UNSET
    requests_per_minute: PerMinute | UnsetType | None = UNSET
    allowed_models: Models | UnsetType = UNSET


class KeyChange(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The body of `PATCH /keys/{key}`: only what is sent is changed."""

    name: Name | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    limit: Amount | UnsetType | None = UNSET
    limit_reset: Reset | UnsetType | None = UNSET
    expires_at: Moment | UnsetType | None = UNSET
    requests_per_minute: PerMinute | UnsetType | None = UNSET
    allowed_models: Models | UnsetType = UNSET


def read(body: NewKey | KeyChange) -> dict[str, Any]:
    """The fields that were sent, as `accounts.keys` takes them."""
    values: dict[str, Any] = {}
    for name in ("name", "disabled", "expires_at", "requests_per_minute", "allowed_models"):
        value = getattr(body, name, UNSET)
        if value is not UNSET:
            values[name] = value
    if body.limit is not UNSET:
        values["limit_nanos"] = _nanos(body.limit)
    if not isinstance(body.limit_reset, UnsetType):
        values["limit_window"] = _WINDOWS[body.limit_reset]
    return values


def write(key: Key) -> dict[str, Any]:
    """A key as it is shown: by explicit list, never with a secret or its hash."""
    secret = _newest(key)
    return {
        "id": key.public_id,
        "hash": key.public_id,
        "name": key.name,
        "label": str(secret) if secret else "",
        "scope": key.scope,
        "disabled": key.state == Key.State.DISABLED,
        "limit": None if key.limit_nanos is None else msgspec.Raw(limits.usd(key.limit_nanos).encode()),
        "limit_nanos": key.limit_nanos,
        "limit_reset": RESETS[key.limit_window],
        "requests_per_minute": key.requests_per_minute,
        "allowed_models": key.allowed_models,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "exposed_at": key.exposed_at,
    }


def _newest(key: Key) -> KeySecret | None:
    return max(key.secrets.all(), key=lambda secret: secret.pk, default=None)


def _nanos(amount: Amount | UnsetType | None) -> int | None:
    if amount is None or isinstance(amount, UnsetType):
        return None
    try:
        return limits.nanos(amount)
    except ValueError as error:
        raise Refusal(
            "invalid_request", f"limit: {error}", param="limit", metadata={"reason": str(error)}
        ) from error
