"""What a request of the `openai` dialect may not ask on our keys. Sans-I/O.

Our keys are shared by all customers. A parameter that changes the price in a way that no price row knows, or
that reaches what a provider stores under our account, is refused by name; everything else unknown travels on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from aggregator.lib.errors import Refusal

_EMPTY = frozenset({b"", b"null", b"[]", b"false", b'""'})  # `{}` turns a web search on

PRICE = "changes the price"
STATE = "reaches stored state"

CLOSED: Mapping[str, str] = {
    # Another speed or tier of service at another price, or before other customers.
    "service_tier": PRICE,
    "speed": PRICE,
    "priority": PRICE,
    "performance": PRICE,
    # Searches and tools that the provider runs, and bills by the use.
    "web_search_options": PRICE,
    "web_search": PRICE,
    "enable_web_search": PRICE,
    "enable_search": PRICE,
    "search_options": PRICE,
    "search_parameters": PRICE,
    "search_settings": PRICE,
    "server_tools": PRICE,
    "mcp_servers": PRICE,
    "connectors": PRICE,
    "compound_custom": PRICE,
    # What is priced by other units than tokens of text.
    "audio": PRICE,
    "image_config": PRICE,
    "image_generation": PRICE,
    # What lies under our account there: answers, talks, files, machines, prompts, caches.
    "store": STATE,
    "background": STATE,
    "previous_response_id": STATE,
    "previous_interaction_id": STATE,
    "conversation": STATE,
    "conversation_id": STATE,
    "thread_id": STATE,
    "assistant_id": STATE,
    "agent_id": STATE,
    "prompt": STATE,
    "prompt_id": STATE,
    "file_ids": STATE,
    "files": STATE,
    "attachments": STATE,
    "vector_store_ids": STATE,
    "tool_resources": STATE,
    "container": STATE,
    "containers": STATE,
    "cached_content": STATE,
    "cachedContent": STATE,
    "library_ids": STATE,
    # Doors to all of the above.
    "extra_body": STATE,
    "callback_url": STATE,
    "webhook_url": STATE,
}
"""Top-level fields that are refused unless they say nothing, and why."""

_ALLOWED = {
    "service_tier": (b'"auto"', b'"default"', b'"standard"', b'"standard_only"'),
    "speed": (b'"standard"',),
    "priority": (b"0",),
    "performance": (b'"standard"',),
}
"""Values that ask for nothing but what is offered anyway."""

_TOOLS = ("function", "custom")
_MODALITIES = ("text",)
_STORED = ("file_id", "vector_store_id", "container_id")
_UNPRICED_PARTS = ("input_audio", "audio_url", "video_url", "input_video")
_SIGNS = (*(b'"%b"' % name.encode() for name in (*_STORED, *_UNPRICED_PARTS)), b"\\u00")
"""What messages hold that may have one of these: its name, or a letter of it written as an escape."""


def refuse_closed(
    fields: Mapping[str, Raw], *, tools: Iterable[str], modalities: Sequence[str], messages: bytes
) -> None:
    """Raises Refusal 400 `unsupported_parameter` naming the field.

    `tools` are the types of the tools, `messages` is the field as it was written.
    """
    for name in CLOSED.keys() & fields.keys():
        raw = bytes(fields[name])
        if raw not in _EMPTY and raw not in _ALLOWED.get(name, ()):
            raise _refusal(name, CLOSED[name])
    for kind in tools:
        if kind not in _TOOLS:
            raise _refusal("tools", PRICE, f"A tool of the type {kind[:60]!r} is run by the provider and")
    for modality in modalities:
        if modality not in _MODALITIES:
            raise _refusal("modalities", PRICE, f"Output of {modality[:40]}")
    _refuse_parts(messages)


def _refuse_parts(messages: bytes) -> None:
    """Looked for as bytes first: few requests hold one of these words, and only they are read again."""
    for sign in _SIGNS:
        if sign in messages:
            break
    else:
        return
    for part in _parts(msgspec.json.decode(messages)):
        kind = part.get("type")
        if kind in _UNPRICED_PARTS:
            raise _refusal("messages", PRICE, f"A part of the type {kind!r}")
        for named in (part, part.get("file"), part.get("image_url")):
            found = next((key for key in _STORED if isinstance(named, dict) and named.get(key)), None)
            if found:
                raise _refusal("messages", STATE, f"`{found}`")


def _parts(messages: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            yield from (part for part in content if isinstance(part, dict))


def _refusal(field: str, why: str, what: str = "") -> Refusal:
    return Refusal(
        "unsupported_parameter",
        f"{what or f'`{field}`'} {why}, and is not offered on managed keys.",
        param=field,
        metadata={"why": why},
    )
