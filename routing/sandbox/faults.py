"""How a simulated provider says that something is wrong, in OpenAI's shape; and how it breaks."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

from routing.sandbox.fleet import Fault
from routing.sandbox.wire import Connection, head

LONGEST_HANG_SECONDS = 900
_BREAKS = ("reset", "error-event", "malformed", "truncated", "cut")
_BREAK_AFTER_SECONDS = 0.1
"""What was sent before is read before the break comes, also by a gateway that is busy: else the two are one
block, and nothing had begun yet."""
RETRY_AFTER = {429: "7", 503: "3"}

_SAID = {
    400: (
        "invalid_request_error",
        None,
        "The sandbox refuses this request, as it always does for this model.",
    ),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided to the sandbox."),
    402: ("insufficient_quota", "insufficient_quota", "The provider's account has no credit left."),
    403: ("permission_error", "permission_denied", "The provider's account may not use this model."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or is not available to you."),
    429: ("rate_limit_exceeded", "rate_limit_exceeded", "Rate limit reached. Please try again in 7 s."),
    500: ("server_error", None, "The server had an error while processing your request."),
    503: ("server_error", "overloaded", "The engine is currently overloaded. Please try again later."),
}


def body(status: int, message: str = "", *, param: str | None = None) -> bytes:
    kind, code, said = _SAID[status]
    return json.dumps(
        {"error": {"message": message or said, "type": kind, "param": param, "code": code}}
    ).encode()


def refuse(
    connection: Connection,
    status: int,
    message: str = "",
    *,
    param: str | None = None,
    retry_after: int | None = None,
) -> None:
    wait = RETRY_AFTER.get(status) if retry_after is None else str(retry_after)
    headers = {} if wait is None else {"retry-after": wait}
    connection.reply(status, body(status, message, param=param), headers)


async def hang() -> None:
    """Silence, until the client goes away."""
    await asyncio.sleep(LONGEST_HANG_SECONDS)


async def slow_head(connection: Connection, fault: Fault, headers: dict[str, str]) -> None:
    """The status line and the headers, one by one, over `fault.seconds`."""
    lines = head(200, headers).split(b"\r\n")[:-2]
    lines += [f"x-slow-{number}: 1".encode() for number in range(max(0, 8 - len(lines)))]
    for line in lines:
        connection.write(line + b"\r\n")
        await asyncio.sleep(fault.seconds / len(lines))
    connection.write(b"\r\n")


async def broken_plain(connection: Connection, fault: Fault, data: bytes) -> str | None:
    """A plain answer that goes wrong; the ending, or None when this fault leaves plain answers alone."""
    half = data[: len(data) // 2]
    if fault.kind == "error-event":
        refuse(connection, 500)
        return "failed"
    if fault.kind == "malformed":
        connection.reply(200, half)
        return "malformed"
    if fault.kind in ("truncated", "cut"):
        connection.reply(200, half, length=len(data))
        connection.cut()
        return "failed"
    if fault.kind in ("hang", "reset") and fault.after:
        connection.reply(200, half, length=len(data))
        return await broken_stream(connection, fault)
    return None


async def broken_stream(connection: Connection, fault: Fault) -> str | None:
    """What happens once `fault.after` chunks are out; the ending, or None when the stream goes on."""
    if fault.kind == "hang":
        await hang()
        return "hung"
    if fault.kind in _BREAKS:
        await asyncio.sleep(_BREAK_AFTER_SECONDS)
    if fault.kind == "reset":
        connection.reset()
        return "reset"
    if fault.kind == "error-event":
        connection.chunk(b"data: " + body(500) + b"\n\n")
        connection.end()
        return "failed"
    if fault.kind == "malformed":
        connection.chunk(b'data: {"id": "chatcmpl-broken", "choices": [{"delta": \n\n')
        connection.end()
        return "malformed"
    if fault.kind == "truncated":
        connection.end()
        return "failed"
    if fault.kind == "cut":
        connection.cut()
        return "failed"
    return None


def down(number: int) -> bool:
    """Whether a flapping provider fails this call: half of all, without a pattern."""
    return random.Random(number).random() < 0.5  # noqa: S311


def left(fault: Fault | None, *, whole: bool) -> str:
    """How a call ends whose client went away: because of a fault, unless the answer was `whole`."""
    kind = "" if fault is None or whole else fault.kind
    return {"hang": "hung", "strange": "malformed"}.get(kind, "client_closed")


def described(fault: Fault | None) -> dict[str, Any]:
    return {} if fault is None else {"fault": fault.kind, "after": fault.after}
