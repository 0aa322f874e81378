"""Bodies of requests: bytes → exact JSON → typed values. Numbers stay exact: no float, no NaN."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec

from aggregator.lib.errors import Refusal

T = TypeVar("T")

_DIGITS_MOST: Final = 40
_UNKNOWN_FIELD: Final = re.compile(r"unknown field `([^`]*)`")
_MISSING_FIELD: Final = re.compile(r"missing required field `([^`]*)`")
_NAME: Final = re.compile(rb'\s*("[^"\\]*(?:\\.[^"\\]*)*")\s*:\s*')
_NEXT: Final = re.compile(rb"\s*[,}]")
_HEX: Final = rb"[0-9a-fA-F]{2}"
_ESCAPES: Final = re.compile(
    rb"\\u[dD][89abAB]" + _HEX + rb"\\u[dD][c-fC-F]" + _HEX + rb"|(\\u[dD][89a-fA-F]" + _HEX + rb")|\\."
)
_MOST_MENDED: Final = 1024 * 1024


def read_json(body: bytes) -> Any:
    """JSON with decimals in place of floats, in which no object names a field twice."""
    try:
        return json.loads(
            body,
            parse_float=_number,
            parse_int=_whole,
            parse_constant=_constant,
            object_pairs_hook=_object,
        )
    except RecursionError as error:
        raise Refusal("invalid_json", "The body is nested too deeply.") from error
    except ValueError as error:
        raise Refusal("invalid_json", f"The body is not valid JSON: {str(error)[:160]}") from error


def typed(kind: type[T], body: Any) -> T:
    """A body as a value of this msgspec type. Raises Refusal naming the field that is wrong or unknown."""
    try:
        return msgspec.convert(body, kind, strict=True)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$")
        unknown = _UNKNOWN_FIELD.search(what)
        missing = _MISSING_FIELD.search(what)
        named = unknown or missing
        path = place.rstrip("`").strip(".")
        field = ".".join(part for part in (path, named[1] if named else "") if part) or None
        reason = "unknown field" if unknown else "is required" if missing else what.replace("`", "")
        raise Refusal(
            "invalid_request",
            f"{field}: {reason}" if field else reason,
            param=field,
            metadata={"reason": reason},
        ) from error


def named_twice(body: bytes, fields: Mapping[str, msgspec.Raw]) -> str | None:
    """The field that a valid JSON object names twice; `fields` is what a decoder kept: the last of each.

    A body without blanks is judged by its length alone.
    """
    if len(body) == 1 + sum(len(name) + len(value) + 4 for name, value in fields.items()):
        return None
    whole, at = memoryview(body), body.index(b"{") + 1
    for name, value in fields.items():
        found = _NAME.match(body, at)
        written = None if found is None else msgspec.json.decode(found[1], type=str)
        if found is None or written != name:
            return written
        end = found.end() + len(value)
        after = _NEXT.match(body, end)
        if after is None or whole[found.end() : end] != memoryview(value):
            return name
        at = after.end()
    more = _NAME.match(body, at)
    return None if more is None else msgspec.json.decode(more[1], type=str)


def _number(text: str) -> Decimal:
    if len(text) > _DIGITS_MOST:
        raise ValueError("a number has too many digits")
    return Decimal(text)


def _whole(text: str) -> int:
    if len(text) > _DIGITS_MOST:
        raise ValueError("a number has too many digits")
    return int(text)


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number in JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held = dict(pairs)
    if len(held) != len(pairs):
        raise ValueError("an object names a field twice")
    return held


def in_whole_characters(data: bytes) -> bytes:
    """JSON whose strings hold no half of a character, in as many bytes.

    Who cuts a text by UTF-16's units, as JavaScript does, writes a character beyond the basic plane as two
    escapes in two chunks. Allowed in JSON; our decoder refuses it.
    """
    if len(data) > _MOST_MENDED:
        return data
    return _ESCAPES.sub(lambda found: rb"\ufffd" if found[1] else found[0], data)
