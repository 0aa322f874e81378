"""The door to Stripe: one client, its time limits, and what each kind of failure means for a caller.

stripe-python takes a third of a second of CPU to import, so only who speaks to Stripe does.
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from django.conf import settings
from django.db import connection

if TYPE_CHECKING:
    import stripe

log = structlog.get_logger(__name__)

T = TypeVar("T")
Listed = TypeVar("Listed", bound="stripe.StripeObject")

SECONDS = 20
RETRIES = 2
"""Of the connection, with the same idempotency key; stripe-python waits between them."""


class StripeUnreachable(Exception):
    """No answer, or one that says *later*: what was asked may have happened. Ask again with the same key."""


class StripeRefused(Exception):
    """Stripe understood and refused. `code` and `decline_code` are its own; nothing happened."""

    def __init__(self, message: str, *, code: str = "", decline_code: str = "", object_id: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.decline_code = decline_code
        self.object_id = object_id
        """The payment intent that was declined, when there is one."""


class CardDeclined(StripeRefused):
    """The bank said no, or wants its customer to confirm in person. An answer, not a fault."""


class NotAtStripe(StripeRefused):
    """Stripe has no object of this id in this account and mode."""


@functools.cache
def _client(key: str, base: str) -> stripe.StripeClient:
    import stripe

    http = stripe.HTTPXClient(timeout=SECONDS, allow_sync_methods=True)
    atexit.register(http.close)  # it lives as long as the process, and its idle connections with it
    return stripe.StripeClient(
        key,
        base_addresses={"api": base} if base else {},
        max_network_retries=RETRIES,
        http_client=http,
    )


def v1() -> stripe.V1Services:
    return _client(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE).v1


def is_live() -> bool:
    """Whether real money moves: by the key's own prefix."""
    return settings.STRIPE_SECRET_KEY.startswith(("sk_live_", "rk_live_"))


def call(asked: Callable[..., T], *arguments: Any) -> T:
    """Ask Stripe; its errors come out as the three of ours, anything else as it is.

    Raises StripeUnreachable, CardDeclined, NotAtStripe, StripeRefused; RuntimeError inside a transaction.
    """
    if any(not block._from_testcase for block in connection.atomic_blocks):  # type: ignore[attr-defined]
        # Its locks would last as long as Stripe takes, and PostgreSQL ends it when that is half a minute.
        raise RuntimeError("Stripe is asked outside of transactions, and what it said is written after.")
    import stripe

    try:
        return asked(*arguments)
    except stripe.CardError as error:
        raise CardDeclined(**_told(error)) from error
    except (stripe.APIConnectionError, stripe.RateLimitError) as error:
        raise StripeUnreachable(str(error)) from error
    except (stripe.AuthenticationError, stripe.PermissionError, stripe.IdempotencyError) as error:
        # Ours to mend; nobody was refused, and under a key used otherwise before, work may have been done.
        log.error("Stripe does not take our calls", error=str(error))
        raise StripeUnreachable(str(error)) from error
    except stripe.InvalidRequestError as error:
        kind = NotAtStripe if error.http_status == 404 else StripeRefused
        raise kind(**_told(error)) from error
    except stripe.StripeError as error:
        # A failure of theirs, a conflict, or an answer that is not theirs: even 200 says nothing without its
        # object, and what was asked may have been done.
        raise StripeUnreachable(str(error)) from error


def keyed(key: str) -> stripe.RequestOptions:
    """The options of a write: its idempotency key, from a row of ours that is committed already."""
    return {"idempotency_key": key}


def every(found: stripe.ListObject[Listed]) -> Iterator[Listed]:
    """All elements of a list, fetched page by page as they are asked for. Raises as `call` does."""
    elements = iter(found.auto_paging_iter())
    while (element := call(next, elements, None)) is not None:
        yield element


def _told(error: stripe.StripeError) -> dict[str, str]:
    said: Any = error.json_body or {}
    body: Mapping[str, Any] = said.get("error") or {}
    intent = body.get("payment_intent") or {}
    return {
        "message": error.user_message or str(error),
        "code": error.code or "",
        "decline_code": str(body.get("decline_code") or ""),
        "object_id": str(intent.get("id") or ""),
    }
