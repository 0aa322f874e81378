"""A logged call as a person reads it: the messages that were sent, and what was answered. Pure.

What cannot be read, because it was cut or is in a form of its own, is left to the text as it was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from routing.core.kept import Content, Text


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Side:
    title: str
    messages: tuple[Message, ...]
    wire: str
    """As it was, indented where it is JSON."""
    size: int
    kept: int
    cut: bool


def sides(content: Content) -> list[Side]:
    """Request and reply, as far as they are kept."""
    found = []
    if content.request is not None:
        asked = _json(content.request)
        found.append(_side("Request", content.request, messages(content), asked))
    if content.reply is not None:
        said = zip(("reasoning", "assistant"), reversed(answer(content)), strict=True)
        told = [Message(role, text) for role, text in said if text]
        data = None if content.streamed else _json(content.reply)
        found.append(_side("Reply", content.reply, told, data))
    return found


def sent(content: Content) -> list[Any] | None:
    """The messages as they were sent; None where the request is not kept, or not whole."""
    asked = _json(content.request)
    found = asked.get("messages") if isinstance(asked, dict) else None
    return found if isinstance(found, list) else None


def messages(content: Content) -> list[Message]:
    """What was sent; empty where the request is not kept, or not whole."""
    return [_message(each) for each in sent(content) or ()]


def as_data(content: Content) -> dict[str, Any]:
    """`input` and `output` as OpenRouter has them; `request` and `reply` as they were on the wire."""
    completion, reasoning = answer(content)
    asked, found = sent(content), {"completion": completion or None, "reasoning": reasoning or None}
    said = {
        "input": None if asked is None else {"messages": asked},
        "output": None if content.reply is None else found,
        "request": _wire(content.request),
        "reply": _wire(content.reply),
    }
    whole: dict[str, Any] = json.loads(_whole(json.dumps(said, ensure_ascii=False)))
    return whole


def _wire(text: Text | None) -> dict[str, Any] | None:
    return None if text is None else {"text": text.text(), "bytes": text.size, "cut": text.cut}


def answer(content: Content) -> tuple[str, str]:
    """(text, reasoning) of the first choice."""
    if content.reply is None:
        return "", ""
    if not content.streamed:
        return _of_message(_choice(_json(content.reply)).get("message"))
    text, reasoning = "", ""
    for line in content.reply.text().split("\n"):
        if line.startswith("data: {"):
            said = _of_message(_choice(_parsed(line.removeprefix("data: "))).get("delta"))
            text, reasoning = text + said[0], reasoning + said[1]
    return text, reasoning


def _choice(data: Any) -> dict[str, Any]:
    choices = data.get("choices") if isinstance(data, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) and first.get("index", 0) == 0 else {}


def _of_message(message: Any) -> tuple[str, str]:
    if not isinstance(message, dict):
        return "", ""
    reasoning = message.get("reasoning") or message.get("reasoning_content")
    return _plain(message.get("content")), _plain(reasoning)


def _message(each: Any) -> Message:
    if not isinstance(each, dict):
        return Message("", json.dumps(each, ensure_ascii=False))
    text = _plain(each.get("content"))
    if each.get("tool_calls"):
        text = "\n".join(filter(None, [text, json.dumps(each["tool_calls"], ensure_ascii=False, indent=2)]))
    return Message(str(each.get("role", "")), text)


def _plain(content: Any) -> str:
    """Text, or the texts of parts; other parts are named."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return json.dumps(content, ensure_ascii=False)
    parts = [part if isinstance(part, dict) else {} for part in content]
    return "\n".join(
        str(part["text"]) if "text" in part else f"[{part.get('type', 'part')}]" for part in parts
    )


def _json(text: Text | None) -> Any:
    return None if text is None or text.cut else _parsed(text.text())


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _side(title: str, text: Text, told: list[Message], data: Any) -> Side:
    wire = text.text() if data is None else json.dumps(data, ensure_ascii=False, indent=2)
    told = [Message(_whole(each.role), _whole(each.text)) for each in told]
    return Side(title, tuple(told), _whole(wire), text.size, len(text.data), text.cut)


def _whole(text: str) -> str:
    """Halves of letters put together, as streams may cut them; a half alone is no letter, and is marked."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
