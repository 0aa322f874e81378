"""`/api/v1/budgets`: hard limits, and what is used of them, with a management key."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import msgspec
from django.http import Http404
from msgspec import UNSET, Meta, UnsetType
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.core import limits as bounds
from accounts.core.principal import Principal
from accounts.models import Membership, Organization, User
from aggregator.lib import bodies, clock
from aggregator.lib.errors import Refusal
from aggregator.rest import caller
from billing import limits, readings
from billing.core import budgets
from billing.core.money import Nanos, usd
from billing.limits import Standing
from billing.models import Budget

PAGE: Final = 100
MOST_SHOWN: Final = 10

Percent = Annotated[int, Meta(ge=1, le=100)]
Thresholds = Annotated[list[Percent], Meta(max_length=10)]


class NewBudget(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The body of `POST /budgets`."""

    kind: Literal["organization", "member", "end_user"]
    window: Literal["day", "week", "month", "total"]
    limit: Decimal
    member: Annotated[str, Meta(max_length=254)] | None = None
    end_user: Annotated[str, Meta(max_length=256)] | None = None
    thresholds: Thresholds | UnsetType = UNSET


class BudgetChange(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The body of `PATCH /budgets/{budget}`: only what is sent is changed."""

    limit: Decimal | UnsetType = UNSET
    thresholds: Thresholds | UnsetType = UNSET


class Budgets(APIView):
    """List and set."""

    http_method_names = ("get", "post", "head")

    def get(self, request: Request) -> Response:
        asked = _offset(request)
        organization = _organization(caller(request))
        # Of all: one of a single member stands in place of that member's part of the one of every member.
        rows = list(limits.live(organization.pk))
        shown = rows[asked : asked + PAGE]
        return Response({"data": _written(organization, rows, shown)})

    def post(self, request: Request) -> Response:
        body = bodies.typed(NewBudget, request.data)
        organization = _organization(caller(request))
        made = limits.set_budget(
            organization,
            kind=body.kind,
            window=body.window,
            limit_nanos=_nanos(body.limit),
            member=_member(organization, body.member),
            end_user=body.end_user or "",
            by=caller(request),
            **_sent(body),
        )
        return Response({"data": _one(organization, made.public_id)}, status=201)


class BudgetDetail(APIView):
    """Read, change and delete one."""

    http_method_names = ("get", "patch", "delete", "head")

    def get(self, request: Request, budget: str) -> Response:
        return Response({"data": _one(_organization(caller(request)), budget)})

    def patch(self, request: Request, budget: str) -> Response:
        row = _budget(caller(request), budget)
        body = bodies.typed(BudgetChange, request.data)
        limit = None if isinstance(body.limit, UnsetType) else _nanos(body.limit)
        limits.change(row, limit_nanos=limit, by=caller(request), **_sent(body))
        return Response({"data": _one(_organization(caller(request)), budget)})

    def delete(self, request: Request, budget: str) -> Response:
        limits.delete(_budget(caller(request), budget), by=caller(request))
        return Response({"deleted": True})


def _organization(principal: Principal) -> Organization:
    return Organization.objects.get(pk=principal.organization_id)


def _budget(principal: Principal, public_id: str) -> Budget:
    found = limits.find(principal.organization_id, public_id)
    if found is None:
        raise Http404
    return found


def _member(organization: Organization, email: str | None) -> User | None:
    if not email:
        return None
    rows = Membership.objects.of(organization).select_related("user")
    held = rows.filter(user__email=email.strip().lower()).first()
    if held is None:
        said = "must be the address of a member"
        raise Refusal("invalid_request", f"member {said}", param="member", metadata={"reason": said})
    return held.user


def _sent(body: NewBudget | BudgetChange) -> dict[str, Any]:
    return {} if isinstance(body.thresholds, UnsetType) else {"thresholds": body.thresholds}


def _nanos(amount: Decimal) -> Nanos:
    try:
        return bounds.nanos(amount)
    except ValueError as error:
        raise Refusal(
            "invalid_request", f"limit: {error}", param="limit", metadata={"reason": str(error)}
        ) from error


def _one(organization: Organization, public_id: str) -> dict[str, Any]:
    rows = list(limits.live(organization.pk))
    shown = [row for row in rows if row.public_id == public_id]
    if not shown:
        raise Http404
    return _written(organization, rows, shown)[0]


def _written(organization: Organization, rows: list[Budget], shown: list[Budget]) -> list[dict[str, Any]]:
    now = clock.now()
    wanted = {row.pk for row in shown}
    by_budget: dict[int, list[Standing]] = {pk: [] for pk in wanted}
    for standing in limits.of_budgets(organization, rows, at=now):
        if standing.budget.pk in wanted:
            by_budget[standing.budget.pk].append(standing)
    people = [each.member_id for found in by_budget.values() for each in found if each.member_id is not None]
    emails = readings.emails(organization.pk, people)
    return [_write(row, by_budget[row.pk], emails, budgets.window(row.window, now)) for row in shown]


def _write(
    budget: Budget, standings: list[Standing], emails: dict[int, str], window: budgets.Window
) -> dict[str, Any]:
    """As it is shown: by explicit list."""
    is_each = budget.kind != Budget.Kind.ORGANIZATION and budget.member_id is None and not budget.end_user
    own = None if is_each else standings[0]
    fullest = sorted(standings, key=lambda each: -each.used_nanos)[:MOST_SHOWN] if is_each else []
    return {
        "id": budget.public_id,
        "kind": budget.kind,
        "member": budget.member.email if budget.member is not None else None,
        "end_user": budget.end_user or None,
        "each": is_each,
        "window": budget.window,
        "limit": _literal(budget.limit_nanos),
        "limit_nanos": budget.limit_nanos,
        "thresholds": budget.thresholds,
        "used": None if own is None else _literal(own.used_nanos),
        "left": None if own is None else _literal(own.left_nanos),
        "resets_at": window.ends_at,
        "fullest": [
            {
                "member": emails.get(each.member_id) if each.member_id is not None else None,
                "end_user": each.end_user or None,
                "used": _literal(each.used_nanos),
                "left": _literal(each.left_nanos),
            }
            for each in fullest
            if each.used_nanos
        ],
        "created_at": budget.created_at,
    }


def _literal(nanos: Nanos) -> msgspec.Raw:
    """Dollars as a plain decimal literal in the JSON, never through a float."""
    return msgspec.Raw(usd(nanos).encode())


def _offset(request: Request) -> int:
    for name in request.query_params:
        if name != "offset":
            raise Refusal("invalid_request", f"{name}: unknown parameter", param=name)
    text = request.query_params.get("offset", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Refusal("invalid_request", "offset: must be a whole number, zero or more", param="offset")
    return int(text)
