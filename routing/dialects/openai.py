"""The `openai` dialect: chat completions, written to providers and read back.

The body passes through with only model, credentials and ids changed.
Source of the wire format: OpenAI's chat completions reference; `usage.cost` and `provider` as OpenRouter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw

from aggregator.lib import clock
from aggregator.lib.bodies import in_whole_characters
from billing.core.pricing import Rates
from billing.core.usage import Usage
from routing.core.asked import FIELDS
from routing.core.chat import Chat
from routing.core.failures import Failure, of_status
from routing.core.listing import Endpoint
from routing.dialects.openai_usage import read_usage

PATH = "/chat/completions"
_NANOS_PER_USD_A_MILLION = 1000
_LONGEST_RETRY_SECONDS = 3600
_STATED_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

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


_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


def write_request(chat: Chat, endpoint: Endpoint, *, max_tokens: int | None) -> bytes:
    """The body for a provider. `max_tokens` is set when the gateway clamps; else the customer's stands."""
    fields: dict[str, Any] = {name: value for name, value in chat.body.items() if name not in FIELDS}
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
    if "picks_hosts" in quirks:
        fields["provider"] = {"max_price": _most(endpoint.price.rates_for(chat.prompt_tokens))}
    return _encode(fields)


def _most(rates: Rates) -> dict[str, Raw]:
    """What we charge for, as a bound for a provider that passes calls on: USD per million tokens."""
    return {
        name: Raw(format(amount / _NANOS_PER_USD_A_MILLION, "f").encode())
        for name, amount in (("prompt", rates.input), ("completion", rates.output))
    }


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


def read_reply(body: bytes, quirks: Collection[str] = ()) -> Completion:
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
        usage = read_usage(fields.get("usage"), quirks)
        odd = ODD if usage is None and bytes(fields.get("usage", _ABSENT)) not in (b"", b"null") else ""
        upstream_id = _text(fields["id"]) if "id" in fields else ""
    except NO_JSON as error:
        raise Failure("malformed", str(error)) from error
    finish = next((choice.finish_reason for choice in finishes if choice.finish_reason), "") or ""
    return Completion(fields, usage, finish, upstream_id, odd)


def write_reply(reply: Completion, changed: dict[str, Any]) -> bytes:
    """The customer's body: the provider's own, with our ids, model and usage in it."""
    return _encode({**reply.fields, **changed})


def read_failure(status: int, body: bytes, retry_after: str | None) -> Failure:
    """A provider's answer that is not 200."""
    try:
        found = msgspec.json.decode(body)
    except NO_JSON:
        found = None
    error = found.get("error", found) if isinstance(found, dict) else None
    message = error.get("message", "") if isinstance(error, dict) else error
    said = message if isinstance(message, str) else ""
    return of_status(status, said, retry_after=_wait(retry_after or ""))


def _wait(retry_after: str) -> int | None:
    """Seconds, rounded up: a provider states them, or the date until which to wait. None: neither."""
    try:
        if _STATED_SECONDS.fullmatch(retry_after):
            seconds = float(retry_after)
        else:
            until = datetime.strptime(retry_after, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
            seconds = (until - clock.now()).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(math.ceil(seconds), 0), _LONGEST_RETRY_SECONDS)


def _error_inside(fields: dict[str, Raw]) -> Failure:
    if "error" in fields:
        error = msgspec.json.decode(fields["error"])
        message = error.get("message", "") if isinstance(error, dict) else str(error)
        return Failure("server_error", str(message))
    return Failure("malformed", "an answer without choices")
