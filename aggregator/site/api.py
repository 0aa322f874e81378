"""`GET /openapi.json`: the whole public API, described."""

from __future__ import annotations

import functools
import hashlib

import msgspec
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access, presented
from aggregator.site import openapi

_MAY_KEEP_SECONDS = 300


class Description(APIView):
    """For anybody, and the same for everybody: it may be kept, and asked for again by its ETag."""

    authentication_classes = ()
    permission_classes = ()

    def get(self, request: Request) -> Response:
        presented.refuse_in_url(request.get_full_path())
        text, tag = _written(access.api_base())
        headers = {"ETag": tag, "Cache-Control": f"public, max-age={_MAY_KEEP_SECONDS}"}
        known = request.headers.get("If-None-Match", "").split(",")
        if tag in {each.strip().removeprefix("W/") for each in known}:
            return Response(status=304, headers=headers)
        return Response(msgspec.Raw(text), headers=headers)


@functools.cache
def _written(base_url: str) -> tuple[bytes, str]:
    text = msgspec.json.encode(openapi.document(base_url))
    return text, f'"{hashlib.sha256(text).hexdigest()[:32]}"'
