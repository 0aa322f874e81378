"""The API's description as a page shows it: operations with flat tables of fields. Pure."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from aggregator.planes import ROUTES, Route
from aggregator.site import openapi
from aggregator.site.openapi.described import Operation, Parameter
from aggregator.site.openapi.errors import BY_TYPE, Error
from aggregator.site.openapi.headers import HEADERS
from aggregator.site.openapi.operations import TAGS, heard

_DEEPEST = 3
_SCOPES = {
    None: "no key needed",
    "inference": "inference key",
    "management": "management key",
    "read": "any key",
}


class Field(NamedTuple):
    name: str
    """With its path: `provider.max_price.prompt`."""
    type: str
    required: bool
    says: str
    of: str
    """The object that it is one of, described on its own."""


class Shown(NamedTuple):
    """One operation as the page shows it."""

    id: str
    method: str
    path: str
    scope: str
    operation: Operation
    parameters: list[Parameter]
    body: list[Field]
    body_is_above: bool
    """The body of an earlier operation is the same."""
    body_example: str
    answer: list[Field]
    answer_example: str
    headers: list[tuple[str, str]]
    errors: list[Error]


class Reference(NamedTuple):
    groups: list[tuple[str, str, list[Shown]]]
    """(tag, what it says, its operations)."""
    objects: list[tuple[str, str, list[Field]]]
    """(name, what it says, its fields): what fields point at."""


@functools.cache
def of(base_url: str) -> Reference:
    schemas = openapi.document(base_url)["components"]["schemas"]
    shown = [_shown(route, schemas) for route in ROUTES]
    groups = [
        (tag, says, [each for each in shown if each.operation.tag == tag]) for tag, says in TAGS.items()
    ]
    objects: dict[str, list[Field]] = {}
    wanted = [field.of for each in shown for field in (*each.body, *each.answer) if field.of]
    wanted += [each.operation.streamed for each in shown if each.operation.streamed]
    while wanted:
        name = wanted.pop(0)
        if name not in objects:
            objects[name] = list(fields(schemas[name], schemas))
            wanted += [field.of for field in objects[name] if field.of]
    described = [
        (name, schemas[name].get("description", ""), found) for name, found in sorted(objects.items())
    ]
    return Reference(groups, described)


def _shown(route: Route, schemas: Mapping[str, Any]) -> Shown:
    says = openapi.of(route)
    return Shown(
        id=openapi.operation_id(route),
        method=route.method,
        path=route.path,
        scope=_SCOPES[route.scope],
        operation=says,
        parameters=list(says.parameters),
        body=list(fields(schemas[says.body], schemas)) if says.body else [],
        body_is_above=any(
            each.body == says.body and at < ROUTES.index(route)
            for at, each in enumerate(map(openapi.of, ROUTES))
            if says.body
        ),
        body_example=pretty(says.body_example) if says.body else "",
        answer=list(fields(schemas[says.answer], schemas)),
        answer_example=pretty(says.answer_example),
        headers=[(name, HEADERS[name][0]) for name in says.headers],
        errors=[BY_TYPE[name] for name in heard(says, route.scope)],
    )


def fields(schema: Mapping[str, Any], schemas: Mapping[str, Any], under: str = "") -> Iterator[Field]:
    """Its fields, and those of the objects written out in it, each by its whole path."""
    needed = schema.get("required", ())
    for name, each in schema.get("properties", {}).items():
        inner, points_at = _inside(each)
        path = f"{under}{name}"
        yield Field(path, type_of(each), name in needed, each.get("description", ""), points_at)
        if inner and path.count(".") < _DEEPEST:
            suffix = "[]." if "array" in _types(each) else "."
            yield from fields(inner, schemas, path + suffix)


def type_of(schema: Mapping[str, Any]) -> str:
    """In words: `text`, `list of Tool`, `number or null`, or the values that there are."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return ", ".join("null" if value is None else str(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_of(each) for each in schema["anyOf"]))
    names = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    kinds = [names.get(kind, kind) for kind in _types(schema)]
    if kinds and kinds[0] == "array":
        kinds[0] = f"list of {type_of(schema['items'])}" if "items" in schema else "list"
    return " or ".join(kinds) or "anything"


def _types(schema: Mapping[str, Any]) -> list[str]:
    found = schema.get("type", [])
    return [found] if isinstance(found, str) else list(found)


def _inside(schema: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str]:
    """(the object written out in it, or the name of the one that it points at)."""
    for each in (schema, schema.get("items", {}), *schema.get("anyOf", ())):
        if "$ref" in each:
            return None, each["$ref"].rpartition("/")[2]
        if "properties" in each:
            return each, ""
        if "$ref" in each.get("items", {}):
            return None, each["items"]["$ref"].rpartition("/")[2]
    return None, ""


def pretty(example: Any) -> str:
    """As JSON that people read."""
    return json.dumps(example, indent=2, ensure_ascii=False)
