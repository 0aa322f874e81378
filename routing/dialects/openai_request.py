"""Chat requests of the `openai` dialect, read from customers. Sans-I/O.

Unknown fields travel on, except those that would change the price or reach stored state on our keys: these
are refused by name. Source of the wire format: OpenAI's chat completions reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Raw

from aggregator.lib.bodies import named_twice
from aggregator.lib.errors import Refusal
from billing.core.usage import MOST_TOKENS
from routing.core.asked import ABSENT, Asked, common, conversation
from routing.core.chat import MOST_CHOICES, Chat
from routing.core.listing import PARAMETERS
from routing.dialects.openai_closed import refuse_closed
from routing.dialects.openai_parts import Shown, read_parts

T = TypeVar("T")
_TOKENS_PER_MESSAGE = 8
_TOKENS_PER_IMAGE = 1600
_BYTES_PER_TOKEN = 3  # English has over four; an estimate should rather be too high

_Count = Annotated[int, Meta(ge=1, le=MOST_TOKENS)]

_SAYS_NOTHING = (b"", b"null", b"[]", b"{}")
_OPTIONAL = frozenset(PARAMETERS) - {"max_tokens", "max_completion_tokens", "structured_outputs"}
"""Fields that some endpoints honour and others ignore."""


class _Message(msgspec.Struct):
    role: Annotated[str, Meta(min_length=1, max_length=32)]
    content: Raw = ABSENT
    audio: Raw = ABSENT


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Tool(msgspec.Struct):
    type: str = "function"


class _Format(msgspec.Struct):
    type: str


class _Request(Asked, kw_only=True):
    """The fields whose type matters to us; a wrong one is a 400 that names it."""

    messages: Annotated[list[_Message], Meta(min_length=1, max_length=10_000)]
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
    tools: list[_Tool] | None = None
    response_format: _Format | None = None
    modalities: list[str] | None = None
    prompt_cache_key: str | None = None


_request = msgspec.json.Decoder(_Request).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode


def decoded(body: bytes, decode: Callable[[bytes], T]) -> tuple[T, dict[str, Raw]]:
    """A body as `decode` has it, and its fields unread. Raises Refusal 400 naming the field."""
    try:
        body.isascii() or body.decode()  # what is passed through unread must be text as well
        asked = decode(body)
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
    return asked, fields


def read_request(body: bytes, *, session: str = "") -> Chat:
    """A customer's body; `session` is the one that its header names. Raises Refusal 400 naming the field."""
    asked, fields = decoded(body, _request)
    refuse_closed(fields, tools=[tool.type for tool in asked.tools or ()], modalities=asked.modalities or ())
    shown = read_parts(asked.messages)
    return Chat(
        stream=bool(asked.stream),
        prompt_tokens=_estimate(fields, len(asked.messages), shown),
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        choices=asked.n or 1,
        needs=_needs(asked, shown),
        parameters=_parameters(asked, fields),
        continued=any(message.role == "assistant" for message in asked.messages),
        conversation=conversation(
            asked.session_id or session or asked.prompt_cache_key, _opening(asked.messages)
        ),
        body=fields,
        **common(asked, max_cost=fields.get("max_cost")),
    )


def _parameters(asked: _Request, fields: dict[str, Raw]) -> frozenset[str]:
    """Which of the fields that an endpoint may not honour are asked for."""
    found = {name for name in _OPTIONAL & fields.keys() if bytes(fields[name]) not in _SAYS_NOTHING}
    if asked.response_format and asked.response_format.type == "json_schema":
        found.add("structured_outputs")
    elif asked.response_format and asked.response_format.type == "text":
        found.discard("response_format")
    return frozenset(found)


def _opening(messages: list[_Message]) -> list[bytes]:
    """How a conversation begins, and goes on beginning: its first instruction and its first other message."""
    first = messages[0]
    found = [bytes(first.content)]
    if first.role in ("system", "developer"):
        other = next((each for each in messages if each.role not in ("system", "developer")), None)
        found.append(b"" if other is None else bytes(other.content))
    return found


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


def _needs(asked: _Request, shown: Shown) -> frozenset[str]:
    needs = set(shown.needs)
    if asked.tools:
        needs.add("tools")
    if asked.response_format and asked.response_format.type == "json_schema":
        needs.add("json_schema")
    return frozenset(needs)


def _estimate(fields: dict[str, Raw], messages: int, shown: Shown) -> int:
    # an image is priced by its tiles, not by the bytes of its base64
    size = len(memoryview(fields["messages"])) - shown.image_bytes
    for extra in ("tools", "response_format", "functions"):
        size += len(bytes(fields[extra])) if extra in fields else 0
    return size // _BYTES_PER_TOKEN + messages * _TOKENS_PER_MESSAGE + shown.images * _TOKENS_PER_IMAGE
