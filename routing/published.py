"""What providers publish of their prices in their own lists of models: fetched by jobs, in bounds.

`openrouter`  `{"data": [{"id": …, "pricing": {"prompt": "0.0000025", …}}]}`, USD per token
`together`    `[{"id": …, "pricing": {"input": 0.18, "output": 0.59}}]`, USD per million tokens
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import httpx

from billing.core.money import EXACT
from billing.core.pricing import parse_price
from routing.core.listing import Provider

MOST_BYTES = 16 * 1024 * 1024
MOST_SECONDS = 30.0
_CONNECT_SECONDS, _READ_SECONDS = 5.0, 10.0
_KINDS = {
    "openrouter": {
        "prompt": "input",
        "completion": "output",
        "input_cache_read": "cache_read",
        "input_cache_write": "cache_write_5m",
        "input_cache_write_1h": "cache_write_1h",
        "internal_reasoning": "reasoning",
        "image_token": "image",
        "audio": "audio",
        "audio_output": "audio_output",
        "request": "request",
    },
    "together": {"input": "input", "output": "output"},
}
"""Their names for what we price, by the shape that a catalog file names in `publishes_prices`.

OpenRouter's `image` and `image_output` are stated for each image, which is no unit of ours, and are left.
"""
_PER_TOKEN = Decimal(1_000_000)


class Unreadable(Exception):
    """The list cannot be fetched or read; the message says why, without a secret."""


def fetch(provider: Provider, shape: str) -> dict[str, dict[str, Any]]:
    """Stated prices by the provider's own names of models. Raises Unreadable.

    The key goes to the provider's own base URL: no redirect is followed, no proxy of the environment used.
    """
    return read(_get(provider), shape)


def read(body: bytes, shape: str) -> dict[str, dict[str, Any]]:
    """The same from the bytes; an entry that states no price which we could charge by is left out."""
    try:
        data = json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"this is not JSON: {str(error)[:100]}") from error
    entries = data.get("data") if isinstance(data, dict) else data
    if not isinstance(entries, list):
        raise Unreadable("there is no list of models in it")
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str):
            stated = _stated(entry.get("pricing"), shape)
            if stated is not None:
                found[entry["id"]] = stated
    if not found:
        raise Unreadable("no model in it states a price")
    return found


def _stated(pricing: object, shape: str) -> dict[str, Any] | None:
    if not isinstance(pricing, Mapping):
        return None
    stated: dict[str, Any] = {}
    try:
        for theirs, ours in _KINDS[shape].items():
            if (amount := pricing.get(theirs)) is not None:
                stated[ours] = _amount(amount, per_token=shape == "openrouter" and ours != "request")
        parse_price(0, stated)
    except (ValueError, ArithmeticError):
        return None
    return stated


def _amount(stated: object, *, per_token: bool) -> str:
    if isinstance(stated, bool) or not isinstance(stated, (str, int, Decimal)) or len(str(stated)) > 40:
        raise ValueError("a price is text or a number")
    try:
        amount = Decimal(stated)
    except InvalidOperation as error:
        raise ValueError("a price is a number") from error
    if not amount.is_finite() or abs(amount.adjusted()) > 30:
        raise ValueError("a price is a finite number")
    scaled = EXACT.multiply(amount, _PER_TOKEN) if per_token else amount
    return format(scaled.normalize(EXACT), "f")


def _get(provider: Provider) -> bytes:
    try:
        return asyncio.run(_got(provider))
    except TimeoutError as error:
        raise Unreadable(f"it took longer than {MOST_SECONDS:g} seconds") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreadable(f"{type(error).__name__}: {str(error)[:100]}") from error


async def _got(provider: Provider) -> bytes:
    """One deadline for all of it: a head that drips in would else keep the job from every other source."""
    timeout = httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS)
    headers = {"Authorization": f"Bearer {provider.api_key}", "Accept-Encoding": "identity"}
    body = bytearray()
    async with (
        asyncio.timeout(MOST_SECONDS),
        httpx.AsyncClient(timeout=timeout, trust_env=False, follow_redirects=False) as client,
        client.stream("GET", f"{provider.base_url}/models", headers=headers) as answer,
    ):
        if answer.status_code != 200:
            raise Unreadable(f"it answered {answer.status_code}")
        async for piece in answer.aiter_raw():
            body += piece
            if len(body) > MOST_BYTES:
                raise Unreadable(f"it is longer than {MOST_BYTES} bytes")
    return bytes(body)
