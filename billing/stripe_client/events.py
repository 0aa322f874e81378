"""Events of Stripe: brought by its webhook under a signature, or read from its list of the last 30 days."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aggregator.lib import clock
from billing.stripe_client.door import call, every, v1

if TYPE_CHECKING:
    import stripe

TOLERANCE_SECONDS = 300
"""How far the time of a signature may lie from ours, in either direction."""
TYPES_AT_ONCE = 20
"""How many types Stripe filters its list by."""
_PAGE = 100


class Forged(Exception):
    """Nobody who holds a signing secret sent this body just now."""


class NotAnEvent(ValueError):
    """Signed, but no event such as we know."""


@dataclass(frozen=True, slots=True)
class EventThere:
    """What happened, as Stripe tells it. A signal to look; `payload` is never a source of facts."""

    id: str
    type: str
    object_id: str
    """Of what it happened to; empty for what has no id, such as a coming invoice."""
    created_at: datetime
    live: bool
    account: str
    """The connected account that it belongs to; empty for our own."""
    payload: Mapping[str, Any]


def verify(body: bytes, signature: str, secrets: Sequence[str]) -> EventThere:
    """The event in a webhook's body, if one of these secrets signed it just now.

    Compared in constant time by Stripe's own library. Raises Forged, NotAnEvent.
    """
    import stripe

    if not signature.isascii():
        raise Forged("the signature is garbled")
    for secret in secrets:
        try:
            stripe.WebhookSignature.verify_header(body, signature, secret, TOLERANCE_SECONDS)
        except (stripe.SignatureVerificationError, UnicodeDecodeError):
            continue
        break
    else:
        raise Forged("no secret of ours signed this just now")
    if _signed_at(signature) > clock.now().timestamp() + TOLERANCE_SECONDS:
        raise Forged("the signature is of the future")
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotAnEvent("the body is not JSON") from error
    return read(told)


def listed(types: Sequence[str], since: datetime) -> list[EventThere]:
    """Events of these types since then, the oldest first. Raises StripeUnreachable, StripeRefused."""
    found: list[stripe.Event] = []
    for begin in range(0, len(types), TYPES_AT_ONCE):
        params: stripe.params.EventListParams = {
            "types": list(types[begin : begin + TYPES_AT_ONCE]),
            "created": {"gte": int(since.timestamp())},
            "limit": _PAGE,
        }
        found += every(call(v1().events.list, params))
    return sorted((read(each.to_dict()) for each in found), key=lambda event: (event.created_at, event.id))


def retrieve(event_id: str) -> EventThere:
    """One event of the last 30 days. Raises NotAtStripe."""
    return read(call(v1().events.retrieve, event_id).to_dict())


def read(told: Any) -> EventThere:
    """An event out of its JSON. Raises NotAnEvent when it lacks what every event has."""
    if not isinstance(told, dict) or told.get("object") != "event":
        raise NotAnEvent("the body is no event")
    data = told.get("data")
    about = data.get("object") if isinstance(data, dict) else None
    name, kind, created, live = (told.get(each) for each in ("id", "type", "created", "livemode"))
    if not (
        isinstance(about, dict)
        and isinstance(name, str)
        and name.startswith("evt_")
        and isinstance(kind, str)
        and isinstance(created, int)
        and isinstance(live, bool)
    ):
        raise NotAnEvent("the event lacks its id, type, time, mode or object")
    try:
        created_at = datetime.fromtimestamp(created, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise NotAnEvent("the event is of no time") from error
    object_id = about.get("id")
    return EventThere(
        id=name,
        type=kind,
        object_id=object_id if isinstance(object_id, str) else "",
        created_at=created_at,
        live=live,
        account=str(told.get("account") or ""),
        payload=told,
    )


def _signed_at(signature: str) -> int:
    """The time of a signature that was verified, so it has one."""
    parts = (part.split("=", 2) for part in signature.split(","))
    return next(int(part[1]) for part in parts if part[0] == "t")
