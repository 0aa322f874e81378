"""What billing shows on every page of a signed-in person: the credit that is left."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from accounts import access
from billing import statements
from billing.money import show_usd

_CENT = 10_000_000


def credit(request: HttpRequest) -> dict[str, Any]:
    """Context processor: `balance`, in whole cents and never more than there is; asked for only if shown."""
    return {"balance": SimpleLazyObject(lambda: _balance(request))}


def _balance(request: HttpRequest) -> str:
    held = access.membership(request)
    if held is None:
        return ""
    nanos = statements.balance(held.organization_id).nanos
    return show_usd(nanos - nanos % _CENT)
