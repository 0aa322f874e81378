"""What the whole management API shares: who is calling, what they may call, and how errors look.

A key comes in the `Authorization` header alone. One in the URL is refused and flagged, because URLs
end up in logs. A browser's session opens nothing here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import IO, Any, Final, TypeVar, cast

import msgspec
import structlog
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import keys, roles, tokens
from accounts.principal import Principal
from aggregator import planes
from aggregator.lib import errors, ids, kv
from aggregator.lib.errors import Refusal

log = structlog.get_logger(__name__)

T = TypeVar("T")

BODY_BYTES_MOST: Final = 64 * 1024
_DIGITS_MOST: Final = 40
_UNKNOWN_FIELD: Final = re.compile(r"unknown field `([^`]*)`")
_MISSING_FIELD: Final = re.compile(r"missing required field `([^`]*)`")


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer fl_mgmt_…` → `request.auth`, a Principal."""

    def authenticate(self, request: Request) -> tuple[None, Principal]:
        found = tokens.PATTERN.search(request.get_full_path())
        if found is not None:
            keys.flag_exposed(found[0])
            raise Refusal(
                "key_in_url",
                "An API key was sent in the URL, where logs keep it. Send it in the Authorization header, "
                "and rotate this key: it is flagged as exposed.",
            )
        kind, _, text = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if kind.lower() != "bearer" or not text.strip():
            raise Refusal(
                "missing_key", "Send an API key in the header `Authorization: Bearer …`.", status=401
            )
        return None, keys.principal(text.strip())

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def caller(request: Request) -> Principal:
    """Whose key this request came with."""
    return cast(Principal, request.auth)


class RouteAllows(BasePermission):
    """The one route table says which scope a method and path ask for; what it does not list is refused."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        route = planes.find(request.method or "", request.path_info)
        if route is None:
            raise exceptions.MethodNotAllowed(request.method or "")
        held = caller(request).scope
        if not roles.allows(held, route.scope):
            raise Refusal(
                "forbidden_scope",
                f"This needs a key of scope {route.scope}; this one has scope {held}.",
                status=403,
                metadata={"scope": held, "needed": route.scope},
            )
        return True


class ExactJSON(BaseParser):
    """JSON with exact numbers: no float, no NaN, no key twice, no bomb."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        body = stream.read(BODY_BYTES_MOST + 1)
        if len(body) > BODY_BYTES_MOST:
            raise Refusal("body_too_large", f"A body may have {BODY_BYTES_MOST} bytes.", status=413)
        try:
            return json.loads(
                body,
                parse_float=_number,
                parse_int=_whole,
                parse_constant=_constant,
                object_pairs_hook=_object,
            )
        except (ValueError, RecursionError) as error:
            raise Refusal("invalid_json", f"The body is not valid JSON: {_brief(error)}") from error


class ExactJSONRenderer(BaseRenderer):
    """Decimals as plain numbers, digit for digit."""

    media_type = "application/json"
    format = "json"
    charset = None
    _encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else self._encoder.encode(data)


def validated(kind: type[T], body: Any) -> T:
    """A body as a value of this msgspec type. Raises Refusal naming the field that is wrong or unknown."""
    try:
        return msgspec.convert(body, kind, strict=True)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$")
        unknown = _UNKNOWN_FIELD.search(what)
        missing = _MISSING_FIELD.search(what)
        named = unknown or missing
        path = place.rstrip("`").strip(".")
        field = ".".join(part for part in (path, named[1] if named else "") if part) or None
        reason = "unknown field" if unknown else "is required" if missing else what.replace("`", "")
        raise Refusal(
            "invalid_request",
            f"{field}: {reason}" if field else reason,
            param=field,
            metadata={"reason": reason},
        ) from error


def render_error(error: Exception, context: Mapping[str, Any]) -> Response:
    """Any exception of a view → the one shape of errors."""
    refusal = _as_refusal(error, context.get("request"))
    headers = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refusal.status == 405 and context.get("request") is not None:
        headers["Allow"] = ", ".join(planes.methods(context["request"].path_info))
    return Response(refusal.as_body(), status=refusal.status, headers=headers)


def _as_refusal(error: Exception, request: Request | None) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Http404 | exceptions.NotFound):
        return Refusal("not_found", "There is no such thing here.", status=404)
    if isinstance(error, exceptions.MethodNotAllowed):
        if request is not None and not planes.methods(request.path_info):
            return Refusal("not_found", "There is no such path.", status=404)
        return Refusal("method_not_allowed", "This path does not answer to this method.", status=405)
    if isinstance(error, PermissionDenied | exceptions.PermissionDenied):
        return Refusal("forbidden", "This key may not do that.", status=403)
    if isinstance(error, exceptions.UnsupportedMediaType):
        return Refusal(
            "unsupported_media_type", "Send JSON with `Content-Type: application/json`.", status=415
        )
    if isinstance(error, exceptions.APIException):
        return Refusal("invalid_request", str(error.detail), status=error.status_code)
    if isinstance(error, OperationalError | InterfaceError | kv.Failed):
        log.error("dependency failed", error=str(error), kind=type(error).__name__)
        return errors.unavailable("The service")
    return _unexpected(error)


def _unexpected(error: Exception) -> Refusal:
    number = f"err_{ids.base62(12)}"
    log.error("unexpected error", id=number, exc_info=error)
    return Refusal(
        "internal_error",
        f"Something went wrong on our side. Nothing was charged. If it stays, tell us {number}.",
        status=500,
        metadata={"id": number},
    )


def _number(text: str) -> Decimal:
    if len(text) > _DIGITS_MOST:
        raise ValueError("a number has too many digits")
    return Decimal(text)


def _whole(text: str) -> int:
    if len(text) > _DIGITS_MOST:
        raise ValueError("a number has too many digits")
    return int(text)


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number in JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held = dict(pairs)
    if len(held) != len(pairs):
        raise ValueError("an object names a field twice")
    return held


def _brief(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:160]
