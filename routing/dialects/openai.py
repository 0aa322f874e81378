"""The `openai` dialect: chat completions, read from customers and written to providers, and back.

The body passes through with only model, credentials and ids changed; unknown fields travel on, except
those that would change the price or reach stored state on our keys: these are refused by name.
Source of the wire format: OpenAI's chat completions reference; `usage.cost` and `provider` as OpenRouter.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from aggregator.lib.bodies import in_whole_characters, named_twice
from aggregator.lib.errors import Refusal
from billing.money import parse_usd
from billing.usage import MOST_TOKENS, Usage
from routing.chat import MOST_CHOICES, MOST_MODELS, PREFERENCES, Chat
from routing.failures import Failure, of_status
from routing.listing import CLASSES, Endpoint

PATH = "/chat/completions"
_TOKENS_PER_MESSAGE = 8
_TOKENS_PER_IMAGE = 1600
_LONGEST_RETRY_SECONDS = 3600
_BYTES_PER_TOKEN = 3  # English has over four; an estimate should rather be too high

# Ours, and what other gateways understand: never sent to a provider.
_OURS = frozenset(
    {"route_preference", "max_cost", "min_class", "show_route", "preset", "timeout"}
    | {"models", "route", "provider", "plugins", "transforms", "usage", "session_id"}
)

_Name = Annotated[str, Meta(min_length=1, max_length=200, pattern="^[^\\x00]*$")]
"""It is kept with the call, and PostgreSQL keeps no NUL."""
_Count = Annotated[int, Meta(ge=1, le=MOST_TOKENS)]
_Seconds = Annotated[float, Meta(gt=0, le=86_400)]
TEXT = re.compile(
    rb'"(?:content|reasoning|reasoning_content|refusal|arguments)"\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")'
)
"""What a model wrote, wherever it stands in a message or in a delta."""

ODD = "unreadable"
"""What is said of a usage that is none."""
NO_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding may raise."""
KIND = "chat.completion"
"""Where an answer names its kind, the name begins so."""
_KINDS = (b'"' + KIND.encode(), b'""', b"null")

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
_encode = msgspec.json.Encoder().encode


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


def write_request(chat: Chat, endpoint: Endpoint, *, max_tokens: int | None) -> bytes:
    """The body for a provider. `max_tokens` is set when the gateway clamps; else the customer's stands."""
    fields: dict[str, Any] = {name: value for name, value in chat.body.items() if name not in _OURS}
    fields["model"] = endpoint.upstream_name
    quirks = endpoint.provider.quirks
    wanted = "max_completion_tokens" if "max_completion_tokens" in quirks else "max_tokens"
    bound = max_tokens if max_tokens is not None else chat.max_tokens
    if bound is not None:
        fields.pop("max_tokens", None)
        fields.pop("max_completion_tokens", None)
        fields[wanted] = bound
    if chat.stream and "no_stream_options" not in quirks:
        fields["stream_options"] = {"include_usage": True}
    else:
        fields.pop("stream_options", None)
    if "random_seed" in quirks and "seed" in fields:
        fields["random_seed"] = fields.pop("seed")
    return _encode(fields)


class Completion(msgspec.Struct):
    """A provider's plain answer, read."""

    fields: dict[str, Raw]
    usage: Usage | None
    finish_reason: str
    upstream_id: str
    odd_usage: str = ""
    """Why what it states as usage is none."""

    def text(self) -> str:
        """Everything that the model wrote, for a count of our own."""
        return "".join(map(_text, TEXT.findall(self.fields["choices"])))


class _Finish(msgspec.Struct):
    finish_reason: str | None = None


_choices = msgspec.json.Decoder(list[_Finish]).decode
_text = msgspec.json.Decoder(str).decode
_usage = msgspec.json.Decoder(dict[str, Any]).decode


def read_reply(body: bytes) -> Completion:
    """A provider's body on status 200. Raises Failure when it is malformed or carries an error."""
    try:
        body.isascii() or body.decode()  # what is passed on unread must be text as well
        try:
            fields = _fields(body)
        except msgspec.DecodeError:
            fields = _fields(in_whole_characters(body))
        if "choices" not in fields:
            raise _error_inside(fields)
        if not bytes(fields.get("object", b"null")).startswith(_KINDS):
            raise Failure("malformed", "an answer of another kind")
        finishes = _choices(fields["choices"])
        usage = read_usage(fields.get("usage"))
        odd = ODD if usage is None and bytes(fields.get("usage", _ABSENT)) not in (b"", b"null") else ""
        upstream_id = _text(fields["id"]) if "id" in fields else ""
    except NO_JSON as error:
        raise Failure("malformed", str(error)) from error
    finish = next((choice.finish_reason for choice in finishes if choice.finish_reason), "") or ""
    return Completion(fields, usage, finish, upstream_id, odd)


def write_reply(reply: Completion, changed: dict[str, Any]) -> bytes:
    """The customer's body: the provider's own, with our ids, model and usage in it."""
    return _encode({**reply.fields, **changed})


def read_usage(raw: Raw | bytes | None) -> Usage | None:
    """OpenAI's meaning: cached tokens lie inside the prompt, reasoning inside the completion.

    None when the provider stated none, or nothing that can be true: the gateway then counts for itself.
    """
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        stated = _usage(raw)
    except msgspec.MsgspecError:
        return None
    prompt, completion = stated.get("prompt_tokens"), stated.get("completion_tokens")
    if type(prompt) is not int or type(completion) is not int:  # True is an int to Python
        return None
    inside = _details(stated, "prompt_tokens_details")
    cached = _within(inside.get("cached_tokens"), prompt)
    written = _within(inside.get("cache_write_tokens"), prompt - cached)
    reasoning = _within(_details(stated, "completion_tokens_details").get("reasoning_tokens"), completion)
    try:
        return Usage(
            input=prompt - cached - written,
            cache_read=cached,
            cache_write_5m=written,
            output=completion - reasoning,
            reasoning=reasoning,
        )
    except ValueError:
        return None


def write_usage(usage: Usage, *, cost: str, cost_nanos: int, base: str) -> dict[str, Any]:
    """`cost` is a plain decimal literal in USD, never an exponent, with whole nanos beside it."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
        "cost": Raw(cost.encode()),
        "cost_nanos": cost_nanos,
        "cost_details": {"upstream_inference_cost": Raw(base.encode())},
        "is_byok": False,
    }


def read_failure(status: int, body: bytes, retry_after: str | None) -> Failure:
    """A provider's answer that is not 200."""
    try:
        found = msgspec.json.decode(body)
    except NO_JSON:
        found = None
    error = found.get("error", found) if isinstance(found, dict) else None
    message = error.get("message", "") if isinstance(error, dict) else error
    seconds = None
    if retry_after and len(retry_after) < 10 and retry_after.isdecimal():
        seconds = min(int(retry_after), _LONGEST_RETRY_SECONDS)
    return of_status(status, message if isinstance(message, str) else "", retry_after=seconds)


def _error_inside(fields: dict[str, Raw]) -> Failure:
    if "error" in fields:
        error = msgspec.json.decode(fields["error"])
        message = error.get("message", "") if isinstance(error, dict) else str(error)
        return Failure("server_error", str(message))
    return Failure("malformed", "an answer without choices")


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


def _details(stated: dict[str, Any], name: str) -> dict[str, Any]:
    found = stated.get(name)
    return found if isinstance(found, dict) else {}


def _within(value: Any, most: int) -> int:
    return min(value, most) if isinstance(value, int) and value > 0 else 0


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
