"""What the whole management API shares: who is calling, what they may call, and how errors look.

A key comes in the `Authorization` header alone. One in the URL is refused and flagged, because URLs
end up in logs. A browser's session opens nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, Final, cast

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

from accounts import keys, presented
from accounts.core import roles
from accounts.core.principal import Principal
from aggregator import planes
from aggregator.lib import bodies, errors, kv
from aggregator.lib.errors import Refusal

if TYPE_CHECKING:
    from rest_framework.views import APIView

log = structlog.get_logger(__name__)

BODY_BYTES_MOST: Final = 64 * 1024


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer fl_mgmt_…` → `request.auth`, a Principal."""

    def authenticate(self, request: Request) -> tuple[None, Principal]:
        presented.refuse_in_url(request.get_full_path())
        return None, keys.principal(presented.text_of(request.META.get("HTTP_AUTHORIZATION", "")))

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
            raise Refusal("payload_too_large", f"A body may have {BODY_BYTES_MOST} bytes.", status=413)
        return bodies.read_json(body)


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


def render_error(error: Exception, context: Mapping[str, Any]) -> Response:
    """Any exception of a view → the one shape of errors."""
    refusal = _as_refusal(error, context.get("request"))
    headers = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(refusal.as_body(), status=refusal.status, headers=headers)


def _as_refusal(error: Exception, request: Request | None) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Http404 | exceptions.NotFound):
        return Refusal("not_found", "There is no such thing here.", status=404)
    if isinstance(error, exceptions.MethodNotAllowed):
        allowed = planes.methods(request.path_info) if request is not None else ()
        if request is not None and not allowed:
            return Refusal("not_found", "There is no such path.", status=404)
        message = f"This path answers to {', '.join(allowed)}."
        return Refusal("method_not_allowed", message, status=405, metadata={"allowed": allowed})
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
    refusal = errors.internal()
    log.error("unexpected error", id=refusal.metadata["id"], exc_info=error)
    return refusal
