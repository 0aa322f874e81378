"""A little exploration: now and then, an endpoint that nobody has measured lately goes first. Pure.

It never costs the customer more than the choice that it replaces: neither as predicted nor at its worst.
"""

from __future__ import annotations

from decimal import Decimal

from billing.core import pricing
from routing.core.decision import Target
from routing.core.ranking import Ask

SHARE = 0.02
"""Of the calls that leave us the choice."""
FEW_ATTEMPTS = 3
"""Who had fewer in five minutes is not well measured."""
MOST_TIMES_SLOWER = 2.0
"""By the catalog, and for whoever did not ask for the cheapest."""


def explore(targets: list[Target], ask: Ask) -> str:
    """Put an endpoint first that deserves a look, and answer the slug of the choice it replaces; or empty."""
    prefs = ask.chat.providers
    if prefs.order or prefs.sort or not prefs.allow_fallbacks or ask.warm is not None:
        return ""
    best = targets[0]
    found = next((target for target in targets[1:] if _deserves(target, best, ask)), None)
    if found is None:
        return ""
    targets.remove(found)
    targets.insert(0, found._replace(marks={**found.marks, "explored": True}))
    return best.endpoint.slug


def _deserves(target: Target, best: Target, ask: Ask) -> bool:
    if "state" in target.marks or "missed" in target.marks:
        return False
    return not _is_measured(target, ask) and _is_quick(target, best, ask) and _is_no_dearer(target, best, ask)


def _is_measured(target: Target, ask: Ask) -> bool:
    slug = target.endpoint.slug
    vitals = ask.live.vitals(slug)
    attempts = vitals.attempts if vitals is not None else 0
    return max(attempts, ask.live.samples(slug, ask.now)) >= FEW_ATTEMPTS


def _is_quick(target: Target, best: Target, ask: Ask) -> bool:
    if ask.chat.preference == "cost":
        return True
    endpoint = target.endpoint
    stated = endpoint.ttft_seconds + ask.length / endpoint.tokens_per_second
    return stated <= MOST_TIMES_SLOWER * best.seconds_predicted


def _is_no_dearer(target: Target, best: Target, ask: Ask) -> bool:
    chat = ask.chat
    if target.cost_nanos_predicted > best.cost_nanos_predicted:
        return False
    most = chat.max_tokens or max(target.endpoint.max_output, best.endpoint.max_output)
    worst = [
        pricing.worst(chat.prompt_tokens, most * chat.choices, each.endpoint.price, Decimal(0))
        for each in (target, best)
    ]
    return worst[0] <= worst[1]
