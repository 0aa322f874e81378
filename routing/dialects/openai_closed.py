"""What a request of the `openai` dialect may not ask on our keys. Sans-I/O.

Our keys are shared by all customers. A parameter that changes the price in a way that no price row knows, or
that reaches what a provider stores under our account, is refused by name; everything else unknown travels on.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw

from aggregator.lib.errors import Refusal

_EMPTY = frozenset({b"", b"null", b"[]", b"false", b'""'})  # `{}` turns a web search on

PRICE = "changes the price"
STATE = "reaches stored state"
CODE = "is run by the server"

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
    "enable_code_interpreter": PRICE,
    "safety_model": PRICE,
    "best_of": PRICE,
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
    "context_id": STATE,
    "data_sources": STATE,
    "deferred": STATE,
    "session_params": STATE,
    "kv_transfer_params": STATE,
    "bootstrap_host": STATE,
    "bootstrap_room": STATE,
    "id_slot": STATE,
    "slot_id": STATE,
    "adapter_id": STATE,
    "lora": STATE,
    "lora_path": STATE,
    # What a server of models runs as code, or loads as it is.
    "chat_template": CODE,
    "logits_processors": CODE,
    "custom_logit_processor": CODE,
    "prompt_embeds": CODE,
    # Doors to all of the above.
    "extra_body": STATE,
    "google": STATE,
    "api_key": STATE,
    "api_base": STATE,
    "base_url": STATE,
    "callback_url": STATE,
    "webhook_url": STATE,
}
"""Top-level fields that are refused unless they say nothing, and why."""

_ALLOWED = {
    "service_tier": (b'"auto"', b'"default"', b'"standard"', b'"standard_only"'),
    "speed": (b'"standard"',),
    "priority": (b"0",),
    "performance": (b'"standard"',),
    "best_of": (b"1",),
    "extra_body": (b"{}",),
}
"""Values that ask for nothing but what is offered anyway."""

_OURS = (
    *("model", "models", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n"),
    *("tools", "modalities", "provider", "plugins", "route"),
)
"""What we read, or write ourselves, because money depends on it."""


def _folded(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")


_WRITTEN_OTHERWISE = {_folded(name): name for name in (*CLOSED, *_OURS)}

_TOOLS = ("function", "custom")
_HOSTED = frozenset(
    {
        *("googlesearch", "googlesearchretrieval", "googlemaps", "enterprisewebsearch", "urlcontext"),
        *("websearch", "codeexecution", "codeinterpreter", "filesearch", "computeruse", "retrieval", "mcp"),
        "type",
    }
)
"""Names of tools without a type, as Google writes them; and the type, written otherwise."""
_tools = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_MODALITIES = ("text",)


def refuse_closed(fields: Mapping[str, Raw], *, tools: Sequence[str], modalities: Sequence[str]) -> None:
    """Raises Refusal 400 `unsupported_parameter` naming the field. `tools` are the types of the tools."""
    for name in CLOSED.keys() & fields.keys():
        raw = bytes(fields[name])
        if raw not in _EMPTY and raw not in _ALLOWED.get(name, ()):
            raise refusal(name, CLOSED[name])
    for name in fields.keys() - CLOSED.keys():
        meant = _meant(name)
        if meant and bytes(fields[name]) not in _EMPTY:
            raise Refusal("invalid_request", f"`{name}`: it is written `{meant}`.", param=name)
    if "cache_control" in fields:
        refuse_long_caching("cache_control", fields["cache_control"])
    if tools:
        _refuse_tools(tools, fields["tools"])
    for modality in modalities:
        if modality not in _MODALITIES:
            raise refusal("modalities", PRICE, f"Output of {modality[:40]}")


@functools.lru_cache(maxsize=1024)
def _meant(name: str) -> str:
    """What a name is another writing of: some servers know it in any case, and the last of two wins there."""
    return "" if name in _OURS else _WRITTEN_OTHERWISE.get(_folded(name), "")


def _refuse_tools(kinds: Sequence[str], tools: Raw) -> None:
    for kind in kinds:
        if kind not in _TOOLS:
            raise refusal("tools", PRICE, f"A tool of the type {kind[:60]!r} is run by the provider and")
    for tool in _tools(tools):
        hosted = next((name for name in tool if name != "type" and _folded(name) in _HOSTED), None)
        if hosted is not None:
            raise refusal("tools", PRICE, f"The tool {hosted[:60]!r} is run by the provider and")
        if "cache_control" in tool:
            refuse_long_caching("tools", tool["cache_control"])


def refuse_long_caching(field: str, raw: Raw) -> None:
    """Writing for an hour costs more, and the usage that comes back does not tell it from five minutes."""
    found = msgspec.json.decode(raw)
    if isinstance(found, dict) and found.get("ttl") not in (None, "5m"):
        raise refusal(field, PRICE, "`cache_control.ttl` above `5m`")


def refusal(field: str, why: str, what: str = "") -> Refusal:
    return Refusal(
        "unsupported_parameter",
        f"{what or f'`{field}`'} {why}, and is not offered on managed keys.",
        param=field,
        metadata={"why": why},
    )
