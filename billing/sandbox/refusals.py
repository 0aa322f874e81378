"""How the API says no: Stripe's error bodies with their statuses."""

from __future__ import annotations

from typing import Any

Thing = dict[str, Any]


class Refused(Exception):
    """An answer that is an error. What was done before it stays done, as after a declined card."""

    def __init__(self, status: int, kind: str, message: str, **said: Any) -> None:
        super().__init__(message)
        self.status = status
        self.error: Thing = {"type": kind, "message": message}
        self.error |= {name: value for name, value in said.items() if value is not None}

    @property
    def body(self) -> Thing:
        return {"error": self.error}


class Invalid(Refused):
    """Refused for what was asked; it is not kept under an idempotency key when nothing ran."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(400, "invalid_request_error", message, param=param, code=code)


def required(param: str) -> Invalid:
    return Invalid(f"Missing required param: {param}.", param=param, code="parameter_missing")


def require_dollars(currency: str) -> None:
    if currency != "usd":
        raise Invalid(f"Invalid currency: {currency}. The sandbox knows usd alone.", param="currency")


def missing(kind: str, found_id: str, param: str | None = None) -> Refused:
    """404 for an id in the path, 400 for one in a parameter."""
    return Refused(
        400 if param else 404,
        "invalid_request_error",
        f"No such {kind}: '{found_id}'",
        code="resource_missing",
        param=param or "id",
    )


def no_such_path(method: str, path: str) -> Refused:
    return Refused(404, "invalid_request_error", f"Unrecognized request URL ({method}: {path}).")


def wrong_key(key: str) -> Refused:
    if not key:
        said = "You did not provide an API key."
    else:
        said = f"Invalid API Key provided: {key[:8]}{'*' * 8}{key[-4:] if len(key) > 16 else ''}"
    return Refused(401, "invalid_request_error", said)


def other_parameters(key: str) -> Refused:
    return Refused(
        400,
        "idempotency_error",
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        f"Try using a key other than '{key}' if you meant to execute a different request.",
    )


def in_flight(key: str) -> Refused:
    return Refused(
        409,
        "idempotency_error",
        f"There is currently another in-progress request using this Idempotent Key: {key}.",
        code="idempotency_key_in_use",
    )


def declined(code: str, message: str, *, decline_code: str | None, **said: Any) -> Refused:
    return Refused(402, "card_error", message, code=code, decline_code=decline_code, **said)
