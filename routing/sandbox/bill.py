"""The sandbox's own bill: every call that it took, with what it would charge for it, exact."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from routing.sandbox.fleet import Offer
from routing.sandbox.wire import now_ms

MOST_KEPT = 200_000
MOST_PREFIXES = 8192
LEAST_CACHED = 64

FREE = frozenset({"refused", "failed", "hung", "reset", "malformed"})
"""Endings that are the provider's own fault, or came before any work: not billed."""


@dataclass(slots=True)
class Call:
    """One request as the provider saw it. Times of this call are in monotonic milliseconds."""

    number: int
    offer: Offer
    user: str
    request_id: str
    streamed: bool
    fields: tuple[str, ...]
    at: float = field(default_factory=time.time)
    started_ms: float = field(default_factory=now_ms)
    first_ms: float | None = None
    ended_ms: float | None = None
    client_closed_ms: float | None = None
    chunks: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0
    ending: str = ""

    @property
    def id(self) -> str:
        return f"chatcmpl-sandbox-{self.number:08d}"

    @property
    def cost(self) -> Decimal:
        if self.ending in FREE:
            return Decimal(0)
        return self.offer.cost(prompt=self.prompt, cached=self.cached, completion=self.completion)

    def usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning, "audio_tokens": 0},
        }

    def as_data(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "id": self.id,
            "at": self.at,
            "provider": self.offer.provider,
            "model": self.offer.model,
            "user": self.user,
            "request_id": self.request_id,
            "streamed": self.streamed,
            "fields": list(self.fields),
            "ending": self.ending or "in flight",
            "usage": self.usage(),
            "cost_usd": f"{self.cost:f}",
            "chunks": self.chunks,
            "started_ms": self.started_ms,
            "first_ms": self.first_ms,
            "ended_ms": self.ended_ms,
            "client_closed_ms": self.client_closed_ms,
        }


class Bill:
    """In memory: it forgets only when it is told to, or after MOST_KEPT calls."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all calls and cached prefixes; numbers go on, so that ids stay unique."""
        self._count: int = getattr(self, "_count", 0)
        self._ended: deque[Call] = deque(maxlen=MOST_KEPT)
        self._open: dict[int, Call] = {}
        self._prefixes: OrderedDict[bytes, None] = OrderedDict()

    def begin(self, offer: Offer, **seen: Any) -> Call:
        self._count += 1
        call = Call(self._count, offer, **seen)
        self._open[call.number] = call
        return call

    def end(self, call: Call, ending: str) -> None:
        """How the client saw it end; the first word counts."""
        if not call.ending:
            call.ending = ending
            call.ended_ms = now_ms()
            self._open.pop(call.number, None)
            self._ended.append(call)

    def remembered(self, prefixes: list[tuple[bytes, int]]) -> int:
        """Tokens of the longest prefix (digest, tokens) seen before; from now on all are remembered."""
        found = 0
        for digest, tokens in prefixes:
            if digest in self._prefixes and tokens >= LEAST_CACHED:
                found = tokens
            self._prefixes[digest] = None
            self._prefixes.move_to_end(digest)
        while len(self._prefixes) > MOST_PREFIXES:
            self._prefixes.popitem(last=False)
        return found

    @property
    def in_flight(self) -> list[Call]:
        return list(self._open.values())

    def find(self, wanted: Mapping[str, str]) -> Iterator[Call]:
        """Ended calls by `provider`, `model`, `user`, `request_id`, `id`, `ending`, `since` (Unix)."""
        since = float(wanted.get("since", 0))
        for call in self._ended:
            if call.at < since:
                continue
            data = {
                "provider": call.offer.provider,
                "model": call.offer.model,
                "user": call.user,
                "request_id": call.request_id,
                "id": call.id,
                "ending": call.ending,
            }
            if all(data[name] == value for name, value in wanted.items() if name in data):
                yield call

    def as_data(self, wanted: Mapping[str, str]) -> dict[str, Any]:
        calls = list(self.find(wanted))
        total = sum((call.cost for call in calls), Decimal(0))
        return {
            "count": len(calls),
            "total_usd": f"{total:f}",
            "complete": len(self._ended) < MOST_KEPT,
            "calls": [call.as_data() for call in calls],
        }
