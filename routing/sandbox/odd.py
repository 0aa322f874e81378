"""Usage as some providers state it: twice, growing, in the wrong place, or nothing that can be true."""

from __future__ import annotations

from typing import Any

WELL_STATED = ("twice", "with-choices", "growing")
"""What is stated is what is billed; only the place is odd."""
UNTRUE = ("zero", "negative", "huge", "text", "nonsense", "list")
"""What is stated is not what is billed."""

_BIT_MORE = 10**6


def stated(form: str, usage: dict[str, Any]) -> Any:
    """What the provider states in place of `usage`."""
    if form == "zero":
        return {**usage, "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    if form == "negative":
        return {**usage, "completion_tokens": -usage["completion_tokens"]}
    if form == "huge":
        return {**usage, "completion_tokens": usage["completion_tokens"] * _BIT_MORE}
    if form == "text":
        return {name: str(count) for name, count in usage.items()}
    if form == "nonsense":
        return {"prompt_tokens": {"count": [usage["prompt_tokens"]]}, "completion_tokens": None}
    if form == "list":
        return [usage["prompt_tokens"], usage["completion_tokens"]]
    return usage
