"""Events as Stripe makes and signs them, for tests that need no Stripe."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import time
from typing import Any

SECRET = "whsec_" + "one"
OTHER = "whsec_" + "two"
_numbers = itertools.count(1)


def event(kind: str = "customer.updated", about: str = "cus_nobody", **fields: Any) -> dict[str, Any]:
    """An event of test mode about an object, of now."""
    return {
        "id": f"evt_{next(_numbers)}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": int(time.time()),
        "data": {"object": {"id": about, "object": kind.rpartition(".")[0]}},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
        **fields,
    }


def signed(body: bytes, secret: str = SECRET, *, late: int = 0) -> str:
    """The `Stripe-Signature` of a body, as of `late` seconds ago."""
    at = int(time.time()) - late
    proof = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={proof}"


def dump(told: Any) -> bytes:
    """As Stripe writes its webhooks."""
    return json.dumps(told, indent=2).encode()
