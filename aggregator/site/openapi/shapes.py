"""Words in which the schemas are written: JSON Schema 2020-12, as OpenAPI 3.1 uses it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Schema = dict[str, Any]


def text(says: str = "", **more: Any) -> Schema:
    return {"type": "string", **_said(says), **more}


def whole(says: str = "", **more: Any) -> Schema:
    return {"type": "integer", **_said(says), **more}


def number(says: str = "", **more: Any) -> Schema:
    return {"type": "number", **_said(says), **more}


def flag(says: str = "") -> Schema:
    return {"type": "boolean", **_said(says)}


def one_of(names: Sequence[str], says: str = "") -> Schema:
    return {"type": "string", "enum": list(names), **_said(says)}


def exactly(value: str) -> Schema:
    return {"type": "string", "const": value}


def usd(says: str = "") -> Schema:
    """Dollars as a JSON number: a plain decimal literal, exact as it is written."""
    return number(says, minimum=0)


def nanos(says: str = "") -> Schema:
    return whole(says, minimum=0)


def moment(says: str = "") -> Schema:
    return text(says, format="date-time")


def several(items: Schema, says: str = "", **more: Any) -> Schema:
    return {"type": "array", "items": items, **_said(says), **more}


def or_null(schema: Schema) -> Schema:
    """The same, or null."""
    if isinstance(schema.get("type"), str):
        wider = {**schema, "type": [schema["type"], "null"]}
        if "enum" in wider:
            wider["enum"] = [*wider["enum"], None]
        return wider
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def thing(
    fields: Mapping[str, Schema], says: str = "", *, without: Sequence[str] = (), **more: Any
) -> Schema:
    """An object in which every field stands, but for those in `without`."""
    needed = [name for name in fields if name not in without]
    return {"type": "object", **_said(says), "properties": dict(fields), "required": needed, **more}


def asked(fields: Mapping[str, Schema], says: str = "", *, needed: Sequence[str] = (), **more: Any) -> Schema:
    """An object of a request: only `needed` must be sent."""
    found: Schema = {"type": "object", **_said(says), "properties": dict(fields), **more}
    return {**found, "required": list(needed)} if needed else found


def data(schema: Schema) -> Schema:
    """The envelope of the management API."""
    return thing({"data": schema})


def _said(says: str) -> Schema:
    return {"description": says} if says else {}
