"""`/api/v1/keys`: the inference keys of an organization, managed with a management key.

Management keys are made and changed by people alone, so no key can make or change a stronger one.
"""

from __future__ import annotations

from typing import Final, cast

from django.db.models import QuerySet
from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import keys, serializers
from accounts.core import roles
from accounts.core.principal import Principal
from accounts.models import Key, Organization
from accounts.serializers import KeyChange, NewKey
from aggregator.lib import bodies
from aggregator.lib.errors import Refusal

PAGE: Final = 100


class Keys(APIView):
    """List and create."""

    http_method_names = ("get", "post", "head")

    def get(self, request: Request) -> Response:
        rows = _keys_of(_caller(request)).order_by("-created_at", "-pk")[_slice(request)]
        return Response({"data": [serializers.write(key) for key in rows]})

    def post(self, request: Request) -> Response:
        values = serializers.read(bodies.typed(NewKey, request.data))
        organization = Organization.objects.get(pk=_caller(request).organization_id)
        key, text = keys.create(organization, by=_caller(request), scope=roles.INFERENCE, **values)
        return Response({"data": serializers.write(key), "key": text}, status=201, headers=_UNSTORED)


class KeyDetail(APIView):
    """Read, change and delete one."""

    http_method_names = ("get", "patch", "delete", "head")

    def get(self, request: Request, key: str) -> Response:
        return Response({"data": serializers.write(_key(_caller(request), key))})

    def patch(self, request: Request, key: str) -> Response:
        row = _key(_caller(request), key)
        values = serializers.read(bodies.typed(KeyChange, request.data))
        return Response({"data": serializers.write(keys.update(row, by=_caller(request), **values))})

    def delete(self, request: Request, key: str) -> Response:
        keys.delete(_key(_caller(request), key), by=_caller(request))
        return Response({"deleted": True})


_UNSTORED: Final = {"Cache-Control": "no-store"}


def _caller(request: Request) -> Principal:
    return cast(Principal, request.auth)


def _keys_of(principal: Principal) -> QuerySet[Key]:
    return (
        Key.objects.of(principal.organization_id)
        .filter(scope=roles.INFERENCE, is_playground=False)
        .exclude(state=Key.State.DELETED)
        .prefetch_related("secrets")
    )


def _key(principal: Principal, public_id: str) -> Key:
    found = _keys_of(principal).filter(public_id=public_id).first()
    if found is None:
        raise Http404
    return found


def _slice(request: Request) -> slice:
    for name in request.query_params:
        if name != "offset":
            raise Refusal("invalid_request", f"{name}: unknown parameter", param=name)
    text = request.query_params.get("offset", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Refusal("invalid_request", "offset: must be a whole number, zero or more", param="offset")
    return slice(int(text), int(text) + PAGE)
