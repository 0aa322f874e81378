"""`GET /generation`, `/key` and `/credits`: what a key may ask about its calls and its money."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import serializers
from accounts.core.principal import Principal
from accounts.models import Key
from aggregator.lib import clock, ids, kv
from aggregator.rest import caller
from billing import gate, plans, statements
from billing.core import generation
from billing.core.budgets import window
from billing.core.generation import Generation
from billing.core.money import Nanos, usd
from billing.statements import Call

_WAIT_SECONDS = 1.0
_RECENT_SECONDS = 30


class GenerationView(APIView):
    """The receipt of one call: from the gate while PostgreSQL does not have the row yet."""

    def get(self, request: Request) -> Response:
        principal = caller(request)
        found = statements.wanted(request.query_params.get("id", ""))
        public_id = generation.public_id(found)
        until = time.monotonic() + _WAIT_SECONDS
        while True:
            call = statements.find_call(principal.organization_id, found)
            if call is not None:
                return Response({"data": _of_call(call)})
            receipt = _receipt(principal, public_id)
            if receipt is not None:
                return Response({"data": _of_receipt(receipt)})
            # A call that ended this instant is on its way from the spool to both.
            age = (clock.now() - ids.uuid7_time(found)).total_seconds()
            if age > _RECENT_SECONDS or time.monotonic() > until:
                statements.refuse_not_kept(found)
                raise Http404
            time.sleep(0.05)


class KeyView(APIView):
    """The calling key: its limits, and what it has used of them."""

    def get(self, request: Request) -> Response:
        principal = caller(request)
        since = window(principal.limit_window, clock.now()).starts_at
        used = _used(principal)
        in_window = used if principal.limit_window == "total" else _used(principal, since=since)
        limit = principal.limit_nanos
        key = Key.objects.of(principal.organization_id).get(pk=principal.key_id)
        data = {
            "id": principal.key,
            "name": principal.name,
            "label": principal.name,
            "scope": principal.scope,
            "is_management_key": principal.scope == "management",
            "usage": _literal(used),
            "limit": None if limit is None else _literal(limit),
            "limit_remaining": None if limit is None else _literal(max(limit - in_window, 0)),
            "limit_reset": serializers.RESETS[principal.limit_window],
            "rate_limit": {"requests": principal.requests_per_minute, "interval": "1m"},
            "allowed_models": sorted(principal.allowed_models),
            "expires_at": key.expires_at,
            "plan": plans.terms(principal.organization_id).plan,
        }
        return Response({"data": data})


class CreditsView(APIView):
    """Everything ever put into the wallet, and everything ever charged."""

    def get(self, request: Request) -> Response:
        found = statements.credits(caller(request).organization_id)
        data = {
            "total_credits": _literal(found.granted_nanos),
            "total_usage": _literal(found.used_nanos),
            "remaining": _literal(found.left_nanos),
            "total_credits_nanos": found.granted_nanos,
            "total_usage_nanos": found.used_nanos,
        }
        return Response({"data": data})


def _used(principal: Principal, **since: Any) -> Nanos:
    lines = statements.usage(principal.organization_id, key_id=principal.key_id, **since)
    return sum(line.charge_nanos for line in lines)


def _receipt(principal: Principal, public_id: str) -> Generation | None:
    try:
        text = gate.receipt(principal.organization, public_id)
    except kv.Failed:
        return None
    return None if text is None else generation.decode(text)


def _of_call(call: Call) -> dict[str, Any]:
    return _shown(
        call,
        cache_write=call.cache_write,
        parts=[[kind, units, format(nanos, "f")] for kind, units, nanos in call.parts],
        markup=format(call.markup.normalize(), "f"),
    )


def _of_receipt(record: Generation) -> dict[str, Any]:
    return _shown(
        record,
        cache_write=record.cache_write_5m + record.cache_write_1h,
        parts=[list(part) for part in record.parts],
        markup=record.markup.rstrip("0").rstrip(".") if "." in record.markup else record.markup,
    )


def _shown(record: Any, *, cache_write: int, parts: list[list[Any]], markup: str) -> dict[str, Any]:
    """One shape, whichever of the two knew the call."""
    prompt = record.input + record.cache_read + cache_write + record.image + record.audio
    completion = record.output + record.reasoning + record.image_output + record.audio_output
    provider = record.endpoint.partition(":")[0]
    return {
        "id": generation.public_id(record.id),
        "status": record.status,
        "model_asked": record.model_asked,
        "model": record.model,
        "endpoint": record.endpoint,
        "provider_name": provider,
        "created_at": ids.uuid7_time(record.id).isoformat(),
        "streamed": record.streamed,
        "cancelled": record.status == generation.ABORTED,
        "finish_reason": record.finish_reason,
        "native_finish_reason": record.native_finish_reason,
        "error_type": record.error_type,
        "tokens_prompt": prompt,
        "tokens_completion": completion,
        "native_tokens_prompt": prompt,
        "native_tokens_completion": completion,
        "native_tokens_cached": record.cache_read,
        "native_tokens_reasoning": record.reasoning,
        "estimated": record.estimated,
        "total_cost": _literal(record.charge_nanos),
        "usage": _literal(record.charge_nanos),
        "cost_nanos": record.charge_nanos,
        "base_nanos": record.base_nanos,
        "markup_nanos": record.charge_nanos - record.base_nanos,
        "markup": markup,
        "price_id": record.price_id,
        "price_window": record.price_window,
        "price_tier": record.price_tier,
        "parts": parts,
        "is_byok": False,
        "latency": record.ttft_ms,
        "generation_time": record.latency_ms,
        "upstream_id": record.upstream_id,
        "route": record.decision,
    }


def _literal(nanos: Nanos) -> msgspec.Raw:
    """Dollars as a plain decimal literal in the JSON, never through a float."""
    return msgspec.Raw(usd(nanos).encode())
