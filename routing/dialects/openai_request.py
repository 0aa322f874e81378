"""Chat requests of the `openai` dialect, read from customers. Sans-I/O.

Unknown fields travel on, except those that would change the price or reach stored state on our keys: these
are refused by name. Source of the wire format: OpenAI's chat completions reference.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from aggregator.lib.bodies import named_twice
from aggregator.lib.errors import Refusal
from billing.money import parse_usd
from billing.usage import MOST_TOKENS
from routing.chat import MOST_CHOICES, MOST_MODELS, PREFERENCES, Chat
from routing.listing import CLASSES

_TOKENS_PER_MESSAGE = 8
_TOKENS_PER_IMAGE = 1600
_BYTES_PER_TOKEN = 3  # English has over four; an estimate should rather be too high

_Name = Annotated[str, Meta(min_length=1, max_length=200, pattern="^[^\\x00]*$")]
"""It is kept with the call, and PostgreSQL keeps no NUL."""
_Count = Annotated[int, Meta(ge=1, le=MOST_TOKENS)]
_Seconds = Annotated[float, Meta(gt=0, le=86_400)]

_ABSENT = Raw(b"")
_NOTHING = (b"", b"null", b"[]", b"false")


class _Message(msgspec.Struct):
    role: Annotated[str, Meta(min_length=1, max_length=32)]
    content: Raw = _ABSENT


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Tool(msgspec.Struct):
    type: str = "function"


class _Format(msgspec.Struct):
    type: str


class _Request(msgspec.Struct):
    """The fields whose type matters to us; a wrong one is a 400 that names it."""

    messages: Annotated[list[_Message], Meta(min_length=1, max_length=10_000)]
    model: _Name
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    n: Annotated[int, Meta(ge=1, le=MOST_CHOICES)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    user: str | None = None
    tools: list[_Tool] | None = None
    response_format: _Format | None = None
    route_preference: str | None = None
    max_cost: float | str | None = None
    min_class: str | None = None
    timeout: _Seconds | None = None
    models: Annotated[list[_Name], Meta(max_length=MOST_MODELS)] | None = None
    route: Raw = _ABSENT
    service_tier: str | None = None
    store: bool | None = None
    web_search_options: Raw = _ABSENT
    plugins: Raw = _ABSENT
    audio: Raw = _ABSENT
    modalities: list[str] | None = None


_request = msgspec.json.Decoder(_Request).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode


def read_request(body: bytes) -> Chat:
    """A customer's body. Raises Refusal 400 that names the field."""
    try:
        body.isascii() or body.decode()  # what is passed through unread must be text as well
        asked = _request(body)
        fields = _fields(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except msgspec.DecodeError as error:
        raise Refusal("invalid_json", f"The body is not valid JSON: {error}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise Refusal("invalid_json", "The body is not valid JSON in UTF-8.") from error
    twice = named_twice(body, fields)
    if twice is not None:
        raise Refusal("invalid_request", f"`{twice}` stands twice in the body", param=twice)
    _refuse_what_we_cannot_price(asked)
    stated = asked.max_completion_tokens or asked.max_tokens
    raw_messages = bytes(fields["messages"])
    images = raw_messages.count(b'"image_url"') // 2 or raw_messages.count(b'"image_url"')
    return Chat(
        model=asked.model,
        stream=bool(asked.stream),
        prompt_tokens=_estimate(fields, len(asked.messages), images),
        max_tokens=stated,
        choices=asked.n or 1,
        preference=_one_of("route_preference", asked.route_preference, PREFERENCES),
        fallback_models=tuple(asked.models or ()),
        needs=_needs(asked, images),
        min_class=_one_of("min_class", asked.min_class, CLASSES),
        max_cost_nanos=_max_cost(fields.get("max_cost"), asked.max_cost),
        timeout_seconds=asked.timeout,
        show_route=bytes(asked.route) in (b"true", b'"show"'),
        body=fields,
    )


def _invalid(text: str) -> Refusal:
    """msgspec says `Expected int, got str - at `$.max_tokens``: the path is the field."""
    what, _, where = text.partition(" - at ")
    path = where.strip("`").removeprefix("$").removeprefix(".")
    missing = what.partition("missing required field `")[2].rstrip("`")
    param = ".".join(filter(None, (path, missing))) or None
    if missing:
        what = "it is required"
    message = f"`{param}`: {what}" if param else f"The body must be a JSON object: {what}"
    return Refusal("invalid_request", message, param=param)


def _one_of(name: str, value: str | None, among: tuple[str, ...]) -> str | None:
    if value is None or value in among:
        return value
    raise Refusal("invalid_request", f"`{name}` must be one of {', '.join(among)}, not {value!r}", param=name)


def _max_cost(raw: Raw | None, value: float | str | None) -> int | None:
    if raw is None or value is None:
        return None
    try:
        nanos = parse_usd(value if isinstance(value, str) else _plain(bytes(raw)))
    except ValueError as error:
        raise Refusal("invalid_request", f"`max_cost`: {error}", param="max_cost") from error
    if nanos <= 0:
        raise Refusal("invalid_request", "`max_cost` must be above zero", param="max_cost")
    return nanos


def _plain(number: bytes) -> str:
    """A JSON number without an exponent, cut to whole nano-dollars: a cap may be lower, not higher."""
    whole, _, rest = format(Decimal(number.decode()), "f").partition(".")
    return f"{whole}.{rest[:9]}" if rest else whole


def _needs(asked: _Request, images: int) -> frozenset[str]:
    needs = set()
    if asked.tools:
        needs.add("tools")
    if images:
        needs.add("vision")
    if asked.response_format and asked.response_format.type == "json_schema":
        needs.add("json_schema")
    return frozenset(needs)


def _estimate(fields: dict[str, Raw], messages: int, images: int) -> int:
    raw = bytes(fields["messages"])
    size = len(raw)
    if images:  # an image is priced by its tiles, not by the bytes of its base64
        size -= sum(len(part) for part in raw.split(b'"') if part.startswith(b"data:image"))
    for extra in ("tools", "response_format", "functions"):
        size += len(bytes(fields[extra])) if extra in fields else 0
    return size // _BYTES_PER_TOKEN + messages * _TOKENS_PER_MESSAGE + images * _TOKENS_PER_IMAGE


def _refuse_what_we_cannot_price(asked: _Request) -> None:
    """On our keys, what would change the price or reach state that a provider stores is refused by name."""
    refused = None
    if asked.service_tier not in (None, "auto", "default"):
        refused = "service_tier"
    elif asked.store:
        refused = "store"
    elif bytes(asked.web_search_options) not in _NOTHING:
        refused = "web_search_options"
    elif bytes(asked.plugins) not in _NOTHING:
        refused = "plugins"
    elif bytes(asked.audio) not in _NOTHING or "audio" in (asked.modalities or ()):
        refused = "audio"
    elif any(tool.type not in ("function", "custom") for tool in asked.tools or ()):
        refused = "tools"
    if refused:
        raise Refusal(
            "unsupported_parameter",
            f"`{refused}` changes the price or reaches stored state, and is not offered on managed keys yet.",
            param=refused,
        )
