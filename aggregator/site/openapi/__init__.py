"""The public API as an OpenAPI 3.1 document, made of the one table `aggregator.planes`. Pure.

`operations` says what each row does, the modules beside it what goes in and out, `errors` what can go wrong.
A row that nobody describes, and a description without a row, is a LookupError.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from aggregator import planes
from aggregator.planes import ROUTES, Route
from aggregator.site.openapi import (
    account,
    budgets,
    catalog,
    chat_answer,
    chat_request,
    costs,
    examples,
    invoices,
    usage,
)
from aggregator.site.openapi.described import Operation, Parameter
from aggregator.site.openapi.errors import BY_TYPE
from aggregator.site.openapi.headers import HEADERS, OF_STATUS
from aggregator.site.openapi.operations import OPERATIONS, TAGS, heard
from aggregator.site.openapi.shapes import Schema, ref

VERSION: Final = "1"
_REASONS: Final = {
    400: "The request is wrong",
    401: "The key is missing or not in force",
    402: "Credit, a limit or the account does not cover it",
    403: "This key may not",
    404: "There is no such thing",
    405: "Another method",
    406: "Another form of answer",
    408: "Time has run out",
    409: "In the way of another",
    410: "It is not kept any more",
    413: "Too long",
    415: "Not JSON",
    422: "Not the same request",
    429: "Too many",
    431: "Headers too long",
    502: "The providers failed",
    503: "Not now",
    504: "The provider was too slow",
}
_DESCRIPTION: Final[Schema] = {
    "type": "object",
    "properties": {"openapi": {"type": "string"}, "info": {"type": "object"}, "paths": {"type": "object"}},
    "required": ["openapi", "info"],
}

SCHEMAS: Final[dict[str, Schema]] = {
    **chat_request.SCHEMAS,
    **chat_answer.SCHEMAS,
    **costs.SCHEMAS,
    **catalog.SCHEMAS,
    **account.SCHEMAS,
    **budgets.SCHEMAS,
    **invoices.SCHEMAS,
    **usage.SCHEMAS,
    "Description": _DESCRIPTION,
}


def document(base_url: str) -> dict[str, Any]:
    """The whole description; `base_url` is where `/chat/completions` and the others lie."""
    strange = OPERATIONS.keys() - {(route.method, route.name) for route in ROUTES}
    if strange:
        raise LookupError(f"described, and in no row of the table: {sorted(strange)}")
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for route in ROUTES:
        paths[route.path][route.method.lower()] = _operation(route, of(route))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fairlead",
            "version": VERSION,
            "summary": "One key to every model, one honest bill.",
            "description": "OpenAI's chat completions over every provider, with a choice you can read and a "
            f"cost you can recompute. Every path lies under {' and '.join(planes.PREFIXES)} alike.",
        },
        "servers": [{"url": base_url}],
        "tags": [{"name": name, "description": says} for name, says in TAGS.items()],
        "paths": dict(paths),
        "components": {
            "schemas": SCHEMAS,
            "headers": {name: _header(name) for name in HEADERS},
            "securitySchemes": {
                "inference": _key("An inference key, `fl_live_…`: calls models, and reads what they cost."),
                "management": _key("A management key, `fl_mgmt_…`: manages inference keys."),
            },
        },
    }


def of(route: Route) -> Operation:
    """What a row of the table does. Raises LookupError where nobody says."""
    found = OPERATIONS.get((route.method, route.name))
    if found is None:
        raise LookupError(f"{route.method} {route.path} is described nowhere")
    return found


def operation_id(route: Route) -> str:
    """Stable, and unique: generated clients name their methods for it."""
    return f"{route.method.lower()}_{route.name}"


def _operation(route: Route, says: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation_id(route),
        "tags": [says.tag],
        "summary": says.summary,
        "description": says.says,
        "security": _security(route.scope),
        "responses": {str(says.status): _answer(says), **_refusals(heard(says, route.scope))},
    }
    if says.parameters:
        found["parameters"] = [_parameter(each) for each in says.parameters]
    if says.body is not None:
        content = {"schema": ref(says.body), "example": says.body_example}
        found["requestBody"] = {"required": True, "content": {"application/json": content}}
    return found


def _security(scope: str | None) -> list[dict[str, list[str]]]:
    if scope is None:
        return []
    return [{name: []} for name in ("inference", "management") if scope in (name, "read")]


def _answer(says: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {says.media: {"schema": ref(says.answer), "example": says.answer_example}}
    if says.streamed is not None:
        content["text/event-stream"] = {
            "schema": {
                "type": "string",
                "description": f"Events `data: …`, each a `{says.streamed}`, then `data: [DONE]`. A line "
                "that begins with a colon only keeps the connection alive.",
                "x-event": ref(says.streamed),
            },
            "example": examples.STREAM,
        }
    found: dict[str, Any] = {"description": says.summary, "content": content}
    if says.headers:
        found["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in says.headers}
    return found


def _refusals(types: tuple[str, ...]) -> dict[str, Any]:
    """One response a status, with every type that it may say."""
    by_status: dict[int, list[str]] = defaultdict(list)
    for name in types:
        for status in BY_TYPE[name].statuses:
            by_status[status].append(name)
    return {str(status): _refusal(status, names) for status, names in sorted(by_status.items())}


def _refusal(status: int, names: list[str]) -> dict[str, Any]:
    lines = [f"- `{name}`: {BY_TYPE[name].means}" for name in names]
    said = {"properties": {"error": {"properties": {"code": {"const": status}, "type": {"enum": names}}}}}
    found: dict[str, Any] = {
        "description": "\n".join((f"{_REASONS[status]}.", "", *lines)),
        "content": {"application/json": {"schema": {"allOf": [ref("Error"), said]}}},
    }
    headers = OF_STATUS.get(status, ())
    if headers:
        found["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    return found


def _parameter(each: Parameter) -> dict[str, Any]:
    found = {
        "name": each.name,
        "in": each.place,
        "description": each.says,
        "required": each.required,
        "schema": each.schema,
    }
    return found if each.example is None else {**found, "example": each.example}


def _header(name: str) -> dict[str, Any]:
    says, schema = HEADERS[name]
    return {"description": says, "schema": schema}


def _key(says: str) -> dict[str, Any]:
    return {"type": "http", "scheme": "bearer", "description": says}
