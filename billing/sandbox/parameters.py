"""What a call may be given, by stripe-python's own types: unknown names and wrong types are refused.

The adapters are built when a call first needs one (5–40 ms each), and kept.
"""

from __future__ import annotations

import collections.abc
import functools
import importlib
import sys
from typing import Any

from pydantic import TypeAdapter, ValidationError

from billing.sandbox.refusals import Invalid, Thing

_CLIENT_OPTIONS = {
    *("api_key", "stripe_version", "stripe_account", "stripe_context", "max_network_retries"),
    *("idempotency_key", "content_type", "headers"),
}
"""stripe-python's types allow these beside the parameters; it never sends them."""


_MOST_METADATA, _MOST_METADATA_NAME, _MOST_METADATA_VALUE = 50, 40, 500


class _AnyObject:
    """Stands for stripe's own dict of untyped values, which pydantic does not know."""

    def __class_getitem__(cls, item: Any) -> Any:
        return dict[str, item]


def checked(typed: str, params: Thing) -> Thing:
    """The parameters with whole numbers and truth values read from their texts.

    `typed` names a class of `stripe.params`, such as `checkout.SessionCreateParams`; empty: none are taken.
    """
    if not typed:
        unknown = next(iter(params), None)
    else:
        unknown = next((name for name in params if name in _CLIENT_OPTIONS), None)
    if unknown is not None:
        raise Invalid(f"Received unknown parameter: {unknown}", param=unknown, code="parameter_unknown")
    if not typed:
        return {}
    _require_sound(typed, params)
    try:
        found: Thing = _adapter(typed).validate_python(params, extra="forbid")
    except ValidationError as error:
        raise _said(error) from None
    return found


def _require_sound(typed: str, params: Thing) -> None:
    """What the types do not tell: an empty text unsets, where it may; metadata have bounds."""
    allowed = _class(typed).__annotations__
    for name, value in params.items():
        if value == "" and name in allowed and "Literal['']" not in str(allowed[name]):
            raise Invalid(
                f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a "
                f"parameter; however '{name}' cannot be unset.",
                param=name,
                code="parameter_invalid_empty",
            )
        if name == "metadata" and isinstance(value, dict):
            _require_small(value)
        elif isinstance(value, dict) and isinstance(value.get("metadata"), dict):
            _require_small(value["metadata"])


def _require_small(metadata: Thing) -> None:
    if len(metadata) > _MOST_METADATA:
        raise Invalid(f"Metadata can have up to {_MOST_METADATA} keys.", param="metadata")
    for name, value in metadata.items():
        if len(name) > _MOST_METADATA_NAME or len(str(value)) > _MOST_METADATA_VALUE:
            said = (
                f"Metadata keys have up to {_MOST_METADATA_NAME} characters, values {_MOST_METADATA_VALUE}."
            )
            raise Invalid(said, param=f"metadata[{name}]")


def _class(typed: str) -> Any:
    package, _, name = typed.rpartition(".")
    module = importlib.import_module(f"stripe.params.{package}" if package else "stripe.params")
    return getattr(module, name)


@functools.cache
def _adapter(typed: str) -> TypeAdapter[Any]:
    kind = _class(typed)
    # What the annotations name but the module does not import, or pydantic cannot read.
    told = vars(sys.modules[kind.__module__])
    told |= {
        "Mapping": collections.abc.Mapping,
        "StripeContext": object,
        "UntypedStripeObject": _AnyObject,
    }
    return TypeAdapter(kind)


def _said(error: ValidationError) -> Invalid:
    """The first thing that is wrong, in Stripe's words."""
    first = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    where = [str(step) for step in first["loc"] if not _is_type_name(step)]
    param = "".join(f"[{step}]" if place else step for place, step in enumerate(where))
    if first["type"] == "extra_forbidden":
        return Invalid(f"Received unknown parameter: {param}", param=param, code="parameter_unknown")
    if first["type"] == "missing":
        return Invalid(f"Missing required param: {param}.", param=param, code="parameter_missing")
    if first["type"].startswith("int"):
        return Invalid(f"Invalid integer: {first['input']}", param=param, code="parameter_invalid_integer")
    return Invalid(f"Invalid value for {param}: {first['msg']}", param=param)


def _is_type_name(step: object) -> bool:
    """Pydantic names the arm of a union in the place of an error; Stripe does not."""
    return isinstance(step, str) and (not step.islower() or "[" in step or step in ("int", "str", "bool"))
