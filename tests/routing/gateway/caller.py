"""A customer's program: calls the gateway over HTTP and reads what comes back, byte for byte."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import httpx

from tests.desk import Organization

HELLO = [{"role": "user", "content": "Say hello to the harbour"}]
FAST = "sandbox/instant"
LIMITS = httpx.Limits(keepalive_expiry=0.5)
"""A connection that the server is just about to close, after a second or more, is not used again."""


@dataclass
class Stream:
    """A stream as it was received."""

    status: int
    headers: httpx.Headers
    raw: bytes
    broken: bool = False

    @property
    def events(self) -> list[bytes]:
        return [part for part in self.raw.split(b"\n\n") if part]

    @property
    def comments(self) -> list[bytes]:
        return [event for event in self.events if event.startswith(b":")]

    @property
    def done(self) -> bool:
        return self.raw.endswith(b"data: [DONE]\n\n")

    @property
    def chunks(self) -> list[dict[str, Any]]:
        data = [event.removeprefix(b"data: ") for event in self.events if event.startswith(b"data: ")]
        return [json.loads(each) for each in data if each != b"[DONE]"]

    @property
    def usage(self) -> dict[str, Any]:
        found = [chunk["usage"] for chunk in self.chunks if chunk.get("usage")]
        assert len(found) == 1, found
        return found[0]

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [chunk["error"] for chunk in self.chunks if "error" in chunk]

    @property
    def text(self) -> str:
        return "".join(
            choice["delta"].get("content") or ""
            for chunk in self.chunks
            for choice in chunk.get("choices", ())
            if choice["index"] == 0
        )

    @property
    def finish(self) -> str | None:
        return next(
            (
                choice["finish_reason"]
                for chunk in self.chunks
                for choice in chunk.get("choices", ())
                if choice.get("finish_reason")
            ),
            None,
        )


class Caller:
    def __init__(self, api_base: str, text: str, *, key_id: str, organization: Organization) -> None:
        self.api_base = api_base
        self.text = text
        self.key_id = key_id
        self.organization = organization
        self.http = httpx.Client(
            base_url=api_base,
            headers={"Authorization": f"Bearer {text}"},
            timeout=30,
            trust_env=False,
            limits=LIMITS,
        )

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def body(self, model: str = FAST, **fields: Any) -> dict[str, Any]:
        return {"model": model, "messages": HELLO, **fields}

    def chat(self, model: str = FAST, **fields: Any) -> httpx.Response:
        return self.http.post("/chat/completions", json=self.body(model, **fields))

    def raw(self, body: bytes | str) -> httpx.Response:
        return self.http.post("/chat/completions", content=body, headers={"Content-Type": "application/json"})

    def stream(self, model: str = FAST, **fields: Any) -> Stream:
        raw, until = b"", time.monotonic() + 60
        with self.opened(model, **fields) as response:
            try:
                for block in response.iter_raw():
                    raw += block
                    assert time.monotonic() < until, f"a stream without end: {raw[-200:]!r}"
            except httpx.RemoteProtocolError:
                return Stream(response.status_code, response.headers, raw, broken=True)
        return Stream(response.status_code, response.headers, raw)

    @contextmanager
    def opened(self, model: str = FAST, **fields: Any) -> Iterator[httpx.Response]:
        body = self.body(model, stream=True, **fields)
        with self.http.stream("POST", "/chat/completions", json=body) as response:
            yield response


@dataclass
class Sandbox:
    """The provider's own account of what happened."""

    url: str
    http: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=10))

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def bill(self, **wanted: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"{self.url}/_sandbox/bill", params=wanted).json()
        return found

    def calls(self, **wanted: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"{self.url}/_sandbox/calls", params=wanted).json()
        return found

    def charge(self, upstream_id: str, *, markup: str = "0.10") -> int:
        """The provider's bill of one call × the mark-up, rounded once, half to even."""
        (call,) = self.bill(id=upstream_id)["calls"]
        exact = Decimal(call["cost_usd"]) * (1 + Decimal(markup)) * 10**9
        return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def error_of(response: httpx.Response) -> tuple[int, str]:
    error = response.json()["error"]
    assert error["code"] == response.status_code, error
    return response.status_code, error["metadata"]["error_type"]
