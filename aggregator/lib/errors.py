"""The base of every expected error.

A `Refusal` is an answer, not an accident: it has a type that programs can match on, a status, and a
message that says what to do. One renderer a plane turns it into bytes; only the unexpected pages a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aggregator.lib import ids


class Refusal(Exception):
    """An expected error. `error_type` is stable for ever; `message` may be reworded.

    `param` names the offending field of the request, `retry_after` is in seconds, and `metadata`
    is merged into `error.metadata` of the answer.
    """

    def __init__(
        self,
        error_type: str,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        retry_after: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.status = status
        self.param = param
        self.retry_after = retry_after
        self.metadata: dict[str, Any] = dict(metadata or {})

    def as_body(self) -> dict[str, Any]:
        """The wire shape shared by both planes: `{"error": {code, message, param?, metadata}}`."""
        error: dict[str, Any] = {
            "code": self.status,
            "message": self.message,
            "type": self.error_type,
            "metadata": {"error_type": self.error_type, **self.metadata},
        }
        if self.param is not None:
            error["param"] = self.param
        return {"error": error}


def unavailable(what: str, *, retry_after: int = 1) -> Refusal:
    """Our own fault: never shown as 401, 402 or 403."""
    return Refusal(
        "service_unavailable",
        f"{what} is unavailable for a moment. Nothing was charged; please retry.",
        status=503,
        retry_after=retry_after,
    )


def internal() -> Refusal:
    """The unexpected, told in general; whoever renders it logs the cause in full under `metadata["id"]`."""
    number = f"err_{ids.base62(12)}"
    return Refusal(
        "internal_error",
        f"Something went wrong on our side. Nothing was charged. If it stays, tell us {number}.",
        status=503,
        retry_after=1,
        metadata={"id": number},
    )
