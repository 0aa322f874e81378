"""The description of the API: whole, valid, and true of what is really answered."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from openapi_spec_validator import OpenAPIV31SpecValidator

from aggregator import planes
from aggregator.planes import ROUTES, Route
from aggregator.site import openapi
from aggregator.site.openapi import errors, operations
from routing.core import asked
from routing.core.failures import Failure
from routing.dialects import openai_request
from tests.site import described

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENT = openapi.document("https://fairlead.example/api/v1")


def test_it_is_a_valid_openapi_document():
    assert [str(error) for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_every_row_of_the_table_is_described_and_nothing_else():
    described_ = {(method.upper(), path) for path, found in DOCUMENT["paths"].items() for method in found}

    assert described_ == {(route.method, route.path) for route in ROUTES}


def test_a_row_that_nobody_describes_fails_the_build(monkeypatch):
    strange = Route("GET", "/undescribed", planes.DATA, None, "undescribed")
    monkeypatch.setattr(openapi, "ROUTES", (*ROUTES, strange))

    with pytest.raises(LookupError, match="/undescribed is described nowhere"):
        openapi.document("https://fairlead.example")


def test_a_description_without_a_row_fails_the_build(monkeypatch):
    monkeypatch.setattr(openapi, "ROUTES", ROUTES[1:])

    with pytest.raises(LookupError, match="chat_completions"):
        openapi.document("https://fairlead.example")


def test_every_path_names_its_own_parameters_and_each_operation_is_named_once():
    names = []
    for path, found in DOCUMENT["paths"].items():
        for operation in found.values():
            names.append(operation["operationId"])
            places = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"]
            assert places == re.findall(r"\{(\w+)\}", path), path
    assert len(names) == len(set(names))


def test_a_key_of_the_scope_that_the_table_asks_for_is_asked_for():
    wanted = {
        None: [],
        "inference": [{"inference": []}],
        "management": [{"management": []}],
        "read": [{"inference": []}, {"management": []}],
    }
    for route in ROUTES:
        assert DOCUMENT["paths"][route.path][route.method.lower()]["security"] == wanted[route.scope]


def test_every_field_that_a_request_may_have_is_described():
    found = DOCUMENT["components"]["schemas"]["ChatRequest"]["properties"]
    provider = DOCUMENT["components"]["schemas"]["ProviderPreferences"]["properties"]

    read = set(openai_request._Request.__struct_fields__)
    assert read - found.keys() == {"show_route"}, "another writing of `route`"
    refused = {"enforce_distillable_text", "options"}
    assert set(asked._Provider.__struct_fields__) - provider.keys() == refused


def _examples() -> Iterator[Any]:
    for (method, name), says in operations.OPERATIONS.items():
        yield pytest.param(says.answer, says.answer_example, id=f"{method} {name}")
        if says.body:
            yield pytest.param(says.body, says.body_example, id=f"body of {method} {name}")


@pytest.mark.parametrize(("schema", "example"), [*_examples()])
def test_every_example_fits_its_schema_to_the_last_field(schema: str, example: Any):
    described.fits(DOCUMENT, schema, example)


def test_a_field_that_is_missing_or_unknown_does_not_fit():
    example = operations.OPERATIONS["GET", "credits"].answer_example["data"]
    less = {name: value for name, value in example.items() if name != "remaining"}

    with pytest.raises(ValidationError, match="'remaining' is a required property"):
        described.fits(DOCUMENT, "Credits", less)
    with pytest.raises(ValidationError, match="'surplus' was unexpected"):
        described.fits(DOCUMENT, "Credits", {**example, "surplus": 1})


def test_every_schema_is_one():
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


# ── Errors ───────────────────────────────────────────────────────────────────────────────────────


def _raised() -> dict[str, set[str]]:
    """error_type → where the code makes a Refusal of it. One made of a variable is found by its literals."""
    found: dict[str, set[str]] = {}
    for app in ("aggregator", "accounts", "billing", "routing"):
        for path in sorted((PROJECT / app).rglob("*.py")):
            if not {"sandbox", "migrations", "openapi"} & set(path.parts):
                for name in _types(ast.parse(path.read_text())):
                    found.setdefault(name, set()).add(str(path.relative_to(PROJECT)))
    return found


def _types(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            first = node.args[0]
            if node.func.id in ("Refusal", "_refused") and isinstance(first, ast.Constant):
                yield str(first.value)


def test_every_error_type_in_the_code_is_documented_and_each_documented_one_is_in_the_code():
    raised = _raised()

    assert raised.keys() - errors.BY_TYPE.keys() - errors.ON_PAGES == set()
    assert errors.BY_TYPE.keys() - raised.keys() == set()
    assert errors.ON_PAGES - raised.keys() == set()
    assert len(errors.BY_TYPE) == len(errors.ERRORS)


def test_a_refusal_is_made_of_a_literal_type_in_one_place_alone():
    """Or the walk above would not see it: `accounts.keys` has a function of its own."""
    made_of_variables = [
        str(path.relative_to(PROJECT))
        for app in ("aggregator", "accounts", "billing", "routing")
        for path in sorted((PROJECT / app).rglob("*.py"))
        if re.search(r"\bRefusal\(\s*[a-z_]+[,)]", path.read_text())
    ]

    assert made_of_variables == ["accounts/keys.py"]


def test_every_kind_of_a_providers_failure_becomes_a_documented_status_and_type():
    from routing.core import failures

    kinds = [value for name, value in vars(failures).items() if name.isupper() and isinstance(value, str)]
    for kind in kinds:
        refusal = failures.as_refusal(Failure(kind), provider="x", attempts=1, metadata={})

        assert refusal.status in errors.BY_TYPE[refusal.error_type].statuses, kind


def test_every_error_is_heard_somewhere():
    heard = set()
    for route in ROUTES:
        heard |= set(operations.heard(openapi.of(route), route.scope))

    assert errors.BY_TYPE.keys() - heard == set()
