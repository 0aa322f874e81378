"""What can go wrong at a provider, named once; the door to providers translates into these.

Failure
├── rejected       the provider refuses this very request (400, 413, 422): another would too
├── missing        the provider does not have what we call there (404, 410): our catalog's fault
├── credentials    our key or our account there (401, 402, 403): never the customer's business
├── rate_limited   429
├── overloaded     503, 529
├── server_error   any other 5xx, or an error inside a stream
├── unreachable    no connection, or it broke
├── full           every connection of ours to the provider is in use: nothing was sent, and it did not fail
├── timeout        a deadline of ours ran out
├── deadline       one that the customer chose ran out, or it read too slowly for ours: charged as if it left
└── malformed      an answer that is not one
"""

from __future__ import annotations

from aggregator.lib.errors import Refusal

REJECTED = "rejected"
MISSING = "missing"
CREDENTIALS = "credentials"
RATE_LIMITED = "rate_limited"
OVERLOADED = "overloaded"
SERVER_ERROR = "server_error"
UNREACHABLE = "unreachable"
FULL = "full"
TIMEOUT = "timeout"
DEADLINE = "deadline"
MALFORMED = "malformed"

_BY_STATUS = {
    401: CREDENTIALS,
    402: CREDENTIALS,
    403: CREDENTIALS,
    404: MISSING,
    407: CREDENTIALS,
    408: TIMEOUT,
    410: MISSING,
    429: RATE_LIMITED,
    503: OVERLOADED,
    504: TIMEOUT,
    529: OVERLOADED,
}
_MOST_MESSAGE = 500
RATE_LIMIT_SECONDS = 2.0
"""How long we keep away from whoever does not say for how long it limits us."""
MOST_RATE_LIMIT_SECONDS = 60.0
_CHARGED = "What was delivered is charged, since too much of today ended free of charge"


class Failure(Exception):
    """One attempt failed. `message` is the provider's own only when the request was `rejected`."""

    def __init__(
        self, kind: str, message: str = "", *, status: int | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message or kind)
        self.kind = kind
        self.message = message[:_MOST_MESSAGE]
        self.status = status
        self.retry_after = retry_after
        self.of_key = False
        """Another key of ours at the same endpoint may do better: it is not the endpoint's failure."""

    @property
    def spares_endpoint(self) -> bool:
        """It says nothing about the endpoint: a key of ours failed, or our connections are all in use."""
        return self.of_key or self.kind == FULL

    @property
    def permanent(self) -> bool:
        """Another endpoint would say the same."""
        return self.kind == REJECTED


def rest_of_limit(retry_after: float | None) -> float:
    """Seconds for which whoever limits us is left alone: as long as it asks, in bounds."""
    seconds = RATE_LIMIT_SECONDS if retry_after is None else float(retry_after)
    return min(max(seconds, 0.0), MOST_RATE_LIMIT_SECONDS)


def of_status(status: int, message: str, *, retry_after: int | None = None) -> Failure:
    """By status before any wording: a 500 whose text mentions a policy is an outage."""
    kind = _BY_STATUS.get(status) or (SERVER_ERROR if status >= 500 else REJECTED)
    if status < 400:  # a redirect, or a success without an answer: nothing that the customer could change
        kind = MALFORMED
    return Failure(kind, message, status=status, retry_after=retry_after)


def as_refusal(
    failure: Failure, *, provider: str, attempts: int, metadata: dict[str, object], charged: bool = False
) -> Refusal:
    """What the customer is told once no target is left; `charged`: for what was delivered, for once."""
    bill = _CHARGED if charged else "Nothing was charged"
    told = {"provider": provider, "attempts": attempts, **metadata}
    if failure.kind == DEADLINE:
        return Refusal("deadline_exceeded", failure.message, status=408, metadata=told)
    if failure.kind == REJECTED:
        status = failure.status if failure.status in (400, 413, 422) else 400
        message = failure.message or "The provider refused the request."
        return Refusal("invalid_request", message, status=status, metadata=told)
    if failure.kind == RATE_LIMITED:
        return Refusal(
            "provider_rate_limited",
            f"Every provider of this model is at capacity. {bill}; retry a little later.",
            status=429,
            retry_after=failure.retry_after or 2,
            metadata=told,
        )
    if failure.kind == OVERLOADED:
        return Refusal(
            "provider_overloaded",
            f"Every provider of this model is overloaded. {bill}; retry a little later.",
            status=503,
            retry_after=failure.retry_after or 2,
            metadata=told,
        )
    if failure.kind == FULL:
        return Refusal(
            "overloaded",
            f"Too many calls to this model's providers are under way here. {bill}; retry a little later.",
            status=503,
            retry_after=1,
            metadata=told,
        )
    if failure.kind == TIMEOUT:
        return Refusal("timeout", f"The provider did not answer in time. {bill}.", status=504, metadata=told)
    return Refusal(
        "provider_unavailable",
        f"The provider could not serve this request. {bill}.",
        status=502,
        metadata=told,
    )
