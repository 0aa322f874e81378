"""Why a call that ended early is free, or is not, in a person's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from billing.core import generation
from billing.statements import Call

_FREE: Final[Mapping[str, str]] = {
    "left_early": "The client left before a provider had begun to answer.",
    "shutdown": "Our process was shut down before the answer was whole.",
    "internal_error": "It failed through a fault of ours.",
    "empty": "The provider ended its answer without having said anything.",
}


def because(call: Call) -> str:
    """A sentence for what is not simply completed; empty for what is."""
    if call.status == generation.VOID:
        return "The process that served it was cut off by a crash of ours. What it delivered is free."
    if call.status == generation.FAILED:
        return f"{_fault(call)} A failure of a provider, or of ours, is free."
    if call.status == generation.ABORTED:
        return _aborted(call)
    return ""


def _fault(call: Call) -> str:
    if call.error_type in _FREE:
        return _FREE[call.error_type]
    tried = call.decision.get("attempts", ())
    if tried and tried[-1].get("begun"):
        return "The provider broke off in the middle of its answer."
    if len(tried) > 1:
        return f"All {len(tried)} attempts failed before a first token."
    return "It failed before its first token."


def _aborted(call: Call) -> str:
    if call.decision.get("charged_because") == "free_loss_per_day":
        return (
            "The provider broke off in the middle of its answer. Free endings had used up what we bear in a "
            "day, so what was delivered until then is charged, never more than was held."
        )
    who = (
        "The client left" if not call.error_type else f"It ended early ({call.error_type.replace('_', ' ')})"
    )
    return f"{who}: the prompt and what was produced until then are charged, and no more."
