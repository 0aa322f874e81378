"""`POST /cost`: what a call would come to at every endpoint of a model that the caller could use. Pure.

The body states the tokens, or it is the body of a call whose tokens are estimated. Priced by the function
that prices calls; nobody is called, and nothing is held.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Raw

from accounts.core.principal import DataPolicy
from aggregator.lib.errors import Refusal
from billing.core import pricing
from billing.core.money import EXACT, usd
from billing.core.usage import MOST_TOKENS, Usage
from routing.core import route
from routing.core.asked import ABSENT, NOTHING, Asked, common
from routing.core.auto import AUTO
from routing.core.chat import Chat
from routing.core.listing import Endpoint, Listing
from routing.dialects.openai_request import decoded, read_request
from routing.dialects.openai_usage import read_usage

_NANOS = Decimal(1_000_000_000)
_Count = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]


class _Inside(msgspec.Struct, forbid_unknown_fields=True):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    image_tokens: _Count | None = None
    audio_tokens: _Count | None = None

    @property
    def together(self) -> int:
        counts = (self.cached_tokens, self.cache_write_tokens, self.image_tokens, self.audio_tokens)
        return sum(count or 0 for count in counts)


class _Outside(msgspec.Struct, forbid_unknown_fields=True):
    reasoning_tokens: _Count | None = None
    image_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    accepted_prediction_tokens: _Count | None = None
    rejected_prediction_tokens: _Count | None = None

    @property
    def together(self) -> int:
        """Of what has a price of its own: predictions are among the rest."""
        return sum(count or 0 for count in (self.reasoning_tokens, self.image_tokens, self.audio_tokens))


class _Stated(msgspec.Struct):
    """OpenAI's object, as answers of ours state it too; what else stands in it, such as `cost`, is passed."""

    prompt_tokens: _Count
    completion_tokens: _Count = 0
    prompt_tokens_details: _Inside | None = None
    completion_tokens_details: _Outside | None = None


class _Kinds(msgspec.Struct, forbid_unknown_fields=True):
    """By the names of prices."""

    input: _Count = 0
    output: _Count = 0
    cache_read: _Count = 0
    cache_write_5m: _Count = 0
    cache_write_1h: _Count = 0
    reasoning: _Count = 0
    image: _Count = 0
    audio: _Count = 0
    image_output: _Count = 0
    audio_output: _Count = 0
    request: _Count = 1


class _Request(Asked, kw_only=True):
    usage: Raw = ABSENT
    messages: Raw = ABSENT


_request = msgspec.json.Decoder(_Request).decode
_stated = msgspec.json.Decoder(_Stated).decode
_kinds = msgspec.json.Decoder(_Kinds).decode
_names = msgspec.json.Decoder(dict[str, Raw]).decode


class Question(NamedTuple):
    chat: Chat
    usage: Usage | None
    """None: what the chat is estimated at."""


def read(body: bytes, *, session: str = "") -> Question:
    """Raises Refusal 400 that names the field."""
    asked, fields = decoded(body, _request)
    has_messages = bytes(asked.messages) not in NOTHING
    if bytes(asked.usage) in NOTHING and not has_messages:
        raise _wrong("usage", "state the tokens as `usage`, or send `messages`")
    if bytes(asked.usage) not in NOTHING and has_messages:
        raise _wrong("usage", "it stands in place of `messages`, not beside them")
    if has_messages:
        question = Question(read_request(body, session=session), None)
    else:
        usage = _usage(asked.usage)
        chat = Chat(
            stream=False,
            prompt_tokens=usage.prompt,
            max_tokens=usage.completion or None,
            needs=frozenset({"vision"} if usage.image else ()),
            **common(asked, max_cost=fields.get("max_cost")),
        )
        question = Question(chat, usage)
    if question.chat.model == AUTO or question.chat.fallback_models:
        raise _wrong("model", "name one model; `POST /route` tells which one `auto` would choose")
    return question


def answer(
    question: Question,
    *,
    listing: Listing,
    allowed_models: Collection[str],
    markup: Decimal,
    policy: DataPolicy | None,
    now: datetime,
) -> dict[str, Any]:
    """The cheapest first. Raises Refusal as `route.choose` does."""
    chat, usage = question
    found = route.usable(
        chat,
        listing=listing,
        allowed_models=allowed_models,
        markup=markup,
        policy=policy,
        max_tokens=None if usage is None else chat.max_tokens,
    )
    priced = [_priced(endpoint, usage or _estimated(chat, endpoint), markup, now) for endpoint in found]
    return {
        "object": "cost",
        "model": found[0].model.slug,
        "estimated": usage is None,
        "prompt_tokens": chat.prompt_tokens,
        "markup": format(markup, "f"),
        "endpoints": sorted(priced, key=lambda each: (each["total_nanos"], each["endpoint"])),
    }


def _estimated(chat: Chat, endpoint: Endpoint) -> Usage:
    """The prompt as it is estimated, and the longest answer that may come."""
    room = min(endpoint.max_output, max(endpoint.context_length - chat.prompt_tokens, 1))
    return Usage(input=chat.prompt_tokens, output=min(chat.max_tokens or room, room) * chat.choices)


def _priced(endpoint: Endpoint, usage: Usage, markup: Decimal, now: datetime) -> dict[str, Any]:
    price = endpoint.price
    charge = pricing.charge(usage, price, markup)
    rates = price.rates_in(charge.tier)
    until = price.next_change(now)
    share = charge.nanos - charge.base_nanos
    return {
        "endpoint": endpoint.slug,
        "provider": endpoint.provider.name,
        "completion_tokens": usage.completion,
        "price_id": price.id,
        "tier": charge.tier,
        "tier_above": price.tiers[charge.tier - 1].above if charge.tier else None,
        "window": price.window,
        "until": None if until is None else until.isoformat().replace("+00:00", "Z"),
        "items": [
            {
                "kind": kind,
                "units": units,
                "unit_price": format(pricing.stated_rate(kind, getattr(rates, kind)), "f"),
                "base": format(EXACT.divide(amount, _NANOS).normalize(EXACT), "f"),
            }
            for kind, units, amount in charge.parts
        ],
        "base": usd(charge.base_nanos),
        "base_nanos": charge.base_nanos,
        "markup_amount": usd(share),
        "markup_nanos": share,
        "total": usd(charge.nanos),
        "total_nanos": charge.nanos,
    }


def _usage(raw: Raw) -> Usage:
    """OpenAI's object, or our own kinds. Raises Refusal 400 that names the field."""
    try:
        names = _names(raw)
        if not names.keys() & {"prompt_tokens", "completion_tokens"}:
            counts = msgspec.structs.asdict(_kinds(raw))
            return Usage(requests=counts.pop("request"), **counts)
        stated = _stated(raw)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    inside, outside = stated.prompt_tokens_details, stated.completion_tokens_details
    if inside is not None and inside.together > stated.prompt_tokens:
        raise _wrong("usage.prompt_tokens_details", "they lie inside `prompt_tokens`, and are more")
    if outside is not None and outside.together > stated.completion_tokens:
        raise _wrong("usage.completion_tokens_details", "they lie inside `completion_tokens`, and are more")
    usage = read_usage(msgspec.json.encode(stated))
    if usage is None:
        raise _wrong("usage", "it is none")
    return usage


def _invalid(text: str) -> Refusal:
    """msgspec says `Expected int, got str - at `$.input``."""
    what, _, where = text.partition(" - at ")
    path = where.strip("`").removeprefix("$").removeprefix(".")
    return _wrong(f"usage.{path}" if path else "usage", what)


def _wrong(field: str, why: str) -> Refusal:
    return Refusal("invalid_request", f"`{field}`: {why}.", param=field)
