"""The bracketed form encoding of Stripe's API: `a[b][0]=c` to and from nested values."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from billing.sandbox.refusals import Invalid, Thing

_KEY = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")
_MOST_PARAMETERS = 5_000


def decode(text: str) -> Thing:
    """Nested dicts and lists of strings. `a[]=x` and `a[0]=x` both make a list."""
    root: Thing = {}
    pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    for name, value in pairs:
        found = _KEY.match(name)
        if found is None:
            raise Invalid(f"Invalid parameter name: {name}", param=name)
        _put(root, [found[1], *re.findall(r"\[([^\[\]]*)\]", found[2])], value)
    return {name: _with_lists(value) for name, value in root.items()}


def _put(root: Thing, keys: list[str], value: str) -> None:
    inside: Any = root
    for depth, key in enumerate(keys):
        step = key or str(len(inside))
        if depth == len(keys) - 1:
            inside[step] = value
            return
        inside = inside.setdefault(step, {})
        if not isinstance(inside, dict):
            raise Invalid(f"Invalid parameter: {keys[0]} is both a value and a list or hash", param=keys[0])


def _with_lists(value: Any) -> Any:
    """Dicts whose keys are 0, 1, 2 … are lists."""
    if not isinstance(value, dict):
        return value
    if value and all(key.isdigit() for key in value):
        return [_with_lists(value[key]) for key in sorted(value, key=int)]
    return {key: _with_lists(inner) for key, inner in value.items()}
