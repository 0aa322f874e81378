"""`GET /generation/content`: what a call said, where its organization has its requests logged."""

from __future__ import annotations

import time
import uuid
from typing import Final

import structlog
from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import log_keys, privacy
from accounts.core import roles
from accounts.core.principal import Principal
from aggregator.lib import clock, ids, seal
from aggregator.lib.errors import Refusal
from aggregator.rest import caller
from billing import statements
from billing.core import generation
from routing import request_logs
from routing.core import transcript
from routing.core.kept import Content

log = structlog.get_logger(__name__)

_WAIT_SECONDS: Final = 1.0
_RECENT_SECONDS: Final = 30


class ContentView(APIView):
    """The log of one call, opened under audit: for its own key, or a key that manages the organization."""

    def get(self, request: Request) -> Response:
        principal = caller(request)
        call_id = statements.wanted(request.query_params.get("id", ""))
        content = _content(principal, call_id)
        data = {"id": generation.public_id(call_id), **transcript.as_data(content)}
        return Response({"data": data})


def _content(principal: Principal, call_id: uuid.UUID) -> Content:
    """Raises Refusal, or Http404 for a call that this key has no business with."""
    owner = request_logs.Named(principal.organization_id, principal.organization)
    own = None if roles.allows(principal.scope, roles.MANAGEMENT) else principal.key_id
    is_logged = privacy.log_rules(principal.organization_id).on
    until = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            content = request_logs.read(owner, call_id, by=principal, key_id=own)
        except (log_keys.KeyLost, seal.Unopened) as error:
            log.error("a request log cannot be opened", organization=owner.public_id, error=str(error))
            raise Refusal(
                "service_unavailable", "This log cannot be opened: its key is not at hand.", status=503
            ) from error
        if content is not None:
            return content
        call = statements.find_call(principal.organization_id, call_id)
        # A call that ended this instant is on its way from the spool, and its log behind it.
        age = (clock.now() - ids.uuid7_time(call_id)).total_seconds()
        if age > _RECENT_SECONDS or time.monotonic() > until or (call is not None and not is_logged):
            raise _absent(call, call_id, seen_by=principal)
        time.sleep(0.05)


def _absent(call: statements.Call | None, call_id: uuid.UUID, *, seen_by: Principal) -> Exception:
    """What to say where nothing is kept. Raises Refusal 410 for a call whose whole month is not."""
    if call is None:
        statements.refuse_not_kept(call_id)
        return Http404()
    if not roles.allows(seen_by.scope, roles.MANAGEMENT) and call.key != seen_by.key:
        return Http404()
    return Refusal(
        "content_not_kept",
        "Nothing is kept of what this call said: it was not logged, or its log was deleted.",
        status=404,
    )
