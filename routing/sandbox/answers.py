"""What a simulated model says: a function of the model, the messages and the seed, and nothing else.

Tokens are counted by a rule of the sandbox's own: a run of up to twelve characters without a space is one.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TOKENS_PER_MESSAGE = 3
TOKENS_PER_IMAGE = 85
_PIECE = re.compile(r"\s*\S{1,12}|\s+\Z")
_TOKEN = re.compile(r"\S{1,12}")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_DEEPEST = 8

_OPENINGS = (
    "You asked about {topic}.",
    "Here is a short answer about {topic}.",
    "Let us look at {topic}.",
    "A few words about {topic}.",
)
_SENTENCES = (
    "This text comes from {model}, a simulated model, so no real provider was called for it.",
    "The same question with the same seed always gets the same answer here.",
    "The endpoint was chosen by its predicted cost and its predicted time.",
    "A cheaper endpoint would have taken longer, and a faster one would have cost more.",
    "Each token of this answer is counted and priced from a table of exact decimals.",
    "Had this provider failed before its first token, another would have answered instead.",
    "The price was frozen when the request was sent, and it will not change on the bill.",
    "What was set aside for this call and not used goes back to the wallet at once.",
    "The words arrive at the pace that this model is known for.",
    "The receipt of this call shows the provider's price and the mark-up apart.",
    "A real model would say something deeper, but it would be routed and billed in the same way.",
    "Longer answers cost more, so a bound on the number of tokens is a bound on the price.",
)
_CLOSINGS = (
    "That is all there is to say about it for now.",
    "Ask again with another preference to see another route.",
    "The activity page shows how this answer came about.",
    "With a real provider's key in place, the same call goes to the real model.",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice: its pieces are its tokens, and its chunks when it is streamed."""

    pieces: tuple[str, ...]
    finish_reason: str
    tool: str | None = None
    """The function's name when this is a tool call; the pieces are then its arguments."""

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def tokens(self) -> int:
        return len(self.pieces) + (self.tool is not None)


def count(text: str) -> int:
    return len(_TOKEN.findall(text))


def message_tokens(message: Mapping[str, Any]) -> int:
    tokens = TOKENS_PER_MESSAGE + sum(count(text) for text in _texts(message.get("content")))
    content = message.get("content")
    if isinstance(content, list):
        tokens += TOKENS_PER_IMAGE * sum(
            isinstance(part, Mapping) and part.get("type") == "image_url" for part in content
        )
    if message.get("tool_calls"):
        tokens += count(json.dumps(message["tool_calls"]))
    return tokens


def digest(*parts: Any) -> bytes:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).digest()


def compose(model: str, body: Mapping[str, Any], *, choice: int, length: int, most: int | None) -> Answer:
    """One choice of an answer. `length` fixes the number of tokens (0: as it comes), `most` bounds it."""
    chance = random.Random(digest(model, body["messages"], body.get("seed"), choice))  # noqa: S311
    tool = _forced_tool(body)
    if tool is not None:
        arguments = json.dumps(instance(tool.get("parameters") or {}, tool.get("parameters") or {}))
        return _bounded(tuple(_PIECE.findall(arguments)), most, finish="tool_calls", tool=str(tool["name"]))
    text = _structured(body, model) or _prose(model, body["messages"], chance)
    pieces = tuple(_PIECE.findall(text))
    if length:
        pieces = tuple(piece for _, piece in zip(range(length), _endless(pieces), strict=False))
    stops = body.get("stop") or ()
    for stop in [stops] if isinstance(stops, str) else stops:
        text = "".join(pieces)
        if stop and stop in text:
            pieces = tuple(_PIECE.findall(text[: text.index(stop)]))
    return _bounded(pieces, most, finish="stop")


def instance(schema: Any, root: Any, depth: int = 0) -> Any:
    """The simplest value that fits a JSON schema, as far as examples of tools and formats go."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return "simulated"
    if isinstance(schema.get("$ref"), str):
        found = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found.get(part, {}) if isinstance(found, Mapping) else {}
        return instance(found, root, depth + 1)
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return instance(schema[name][0], root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object" or "properties" in schema:
        return {name: instance(of, root, depth + 1) for name, of in (schema.get("properties") or {}).items()}
    if kind == "array":
        least = max(1, schema.get("minItems", 1))
        return [instance(schema.get("items") or {}, root, depth + 1) for _ in range(min(least, 16))]
    simple: dict[Any, Any] = {
        "integer": schema.get("minimum", 1),
        "number": schema.get("minimum", 1),
        "boolean": True,
        "null": None,
    }
    return simple.get(kind, "simulated")


def _bounded(pieces: tuple[str, ...], most: int | None, *, finish: str, tool: str | None = None) -> Answer:
    room = None if most is None else max(0, most - (tool is not None))
    if room is not None and len(pieces) > room:
        return Answer(pieces[:room], "length", tool)
    return Answer(pieces, finish, tool)


def _endless(pieces: Sequence[str]) -> Iterator[str]:
    while True:
        yield from (pieces[0] if pieces[0][:1].isspace() else " " + pieces[0], *pieces[1:])


def _forced_tool(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The function that `tool_choice` demands; left free, a simulated model prefers to talk."""
    tools = [tool["function"] for tool in body.get("tools") or () if tool.get("type") == "function"]
    choice = body.get("tool_choice")
    if choice == "required":
        return tools[0] if tools else None
    if isinstance(choice, Mapping):
        named = (choice.get("function") or {}).get("name")
        return next((tool for tool in tools if tool.get("name") == named), None)
    return None


def _structured(body: Mapping[str, Any], model: str) -> str | None:
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_object":
        return json.dumps({"answer": f"A simulated answer about {_topic(body['messages'])}.", "model": model})
    if wanted.get("type") == "json_schema":
        schema = (wanted.get("json_schema") or {}).get("schema") or {}
        return json.dumps(instance(schema, schema))
    return None


def _prose(model: str, messages: Sequence[Mapping[str, Any]], chance: random.Random) -> str:
    lines = [
        chance.choice(_OPENINGS),
        *chance.sample(_SENTENCES, chance.randint(3, 6)),
        chance.choice(_CLOSINGS),
    ]
    return " ".join(lines).format(topic=_topic(messages), model=model)


def _topic(messages: Sequence[Mapping[str, Any]]) -> str:
    """The first words of the last thing that the user said."""
    said = [
        text
        for message in messages
        if message.get("role") == "user"
        for text in _texts(message.get("content"))
    ]
    words = _WORD.findall(said[-1][:400])[:8] if said else []
    return f"“{' '.join(words)}”" if words else "nothing in particular"


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, Mapping) and isinstance(part.get("text"), str):
                yield part["text"]
