"""What every page of a signed-in person says of the money: what is left, and what is wrong with it."""

from __future__ import annotations

import functools
from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from accounts import access
from accounts.core import roles
from billing import overview
from billing.core.money import NANOS_PER_CENT, show_usd


def credit(request: HttpRequest) -> dict[str, Any]:
    """Context processor. `balance` is in whole cents and never more than there is, `money_trouble` is a word
    or two, `sees_billing` whether the member may open the page. One statement, and only if a page asks."""
    header = functools.cache(lambda: _header(request))
    return {
        "balance": SimpleLazyObject(lambda: _balance(header())),
        "money_trouble": SimpleLazyObject(lambda: _trouble(header())),
        "sees_billing": SimpleLazyObject(lambda: _sees_billing(request)),
    }


def _header(request: HttpRequest) -> overview.Header | None:
    held = access.membership(request)
    if held is None or held.role == roles.UNPROVEN:
        return None
    return overview.header(held.organization_id)


def _balance(header: overview.Header | None) -> str:
    return "" if header is None else show_usd(header.left_nanos - header.left_nanos % NANOS_PER_CENT)


def _trouble(header: overview.Header | None) -> str:
    if header is None:
        return ""
    return "Suspended" if header.frozen_because else "Payment overdue" if header.is_past_due else ""


def _sees_billing(request: HttpRequest) -> bool:
    held = access.membership(request)
    return held is not None and held.may(roles.BILLING)
