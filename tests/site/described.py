"""Holds real answers against the description of the API, to the last field."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator, FormatChecker


def fits(document: dict[str, Any], schema: str, answer: Any) -> None:
    """Raises ValidationError where the answer lacks a field, has one too many, or has it in another type.

    The document itself leaves objects open, so that clients made of it live with fields to come.
    """
    components = {
        "schemas": {name: _closed(each) for name, each in document["components"]["schemas"].items()}
    }
    whole = {"$ref": f"#/components/schemas/{schema}", "components": components}
    Draft202012Validator(whole, format_checker=FormatChecker()).validate(answer)


def _closed(schema: Any) -> Any:
    """The same, but that an object has no other fields than it lists, unless it says that it may."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _closed(each) for name, each in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found
