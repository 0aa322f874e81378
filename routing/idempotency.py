"""`Idempotency-Key`: the same request again has the same answer again, and is called and charged once.

The claim on the key lies in the gate (`billing.claims`), the answer of a charged call in the cache, found
by the organization and the generation that the claim names. Of an organization only so many bytes are
kept; newer answers displace its older ones. A key whose answer is gone still calls nothing again.

What was free, a refusal or a failure, leaves the key free. A plain call goes on when its client leaves, so
that the same request again finds the answer; a stream ends with its client, is charged for what it
produced, and is not answered again.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

import msgspec
from django.conf import settings

from aggregator.lib import crash, kv
from aggregator.lib.errors import Refusal, unavailable
from billing import claims
from billing.admission import Admission
from billing.claims import Claim, Claims
from billing.core import generation
from routing.call import Call
from routing.callers import Caller, Callers

log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]

MOST_CHARACTERS = 255
_TRIES = 3
_STORE_SECONDS = 1.0
_REPLAYED = (b"idempotent-replayed", b"true")
_OF_THE_MOMENT = (b"x-ratelimit-limit", b"x-ratelimit-remaining")

_READ = "return redis.call('GET', KEYS[1])"
_KEEP = """
-- KEYS: answer, the organization's queue of answers   ARGV: member answer seconds most_bytes
-- The queue is a hash: `first` and `next` number its entries, each `member size end`; `bytes` is their sum.
local t, size, most = tonumber(redis.call('TIME')[1]), #ARGV[2], tonumber(ARGV[4])
if size > most then return 0 end
if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
local q = redis.call('HMGET', KEYS[2], 'first', 'next', 'bytes')
local first, nxt, bytes = tonumber(q[1]) or 0, tonumber(q[2]) or 0, tonumber(q[3]) or 0
while first < nxt do
  local member, old, till = redis.call('HGET', KEYS[2], first):match('^(%S+) (%d+) (%d+)$')
  if tonumber(till) > t and bytes + size <= most then break end
  redis.call('DEL', KEYS[1]:sub(1, #KEYS[1] - #ARGV[1]) .. member)
  redis.call('HDEL', KEYS[2], first)
  first, bytes = first + 1, bytes - tonumber(old)
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
redis.call('HSET', KEYS[2], 'first', first, 'next', nxt + 1, 'bytes', bytes + size)
redis.call('HSET', KEYS[2], nxt, string.format('%s %d %d', ARGV[1], size, t + tonumber(ARGV[3])))
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
"""


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it was given, but for the headers that tell of the moment."""

    status: int
    streamed: bool
    headers: Headers
    body: bytes


@dataclass(slots=True)
class Once:
    """One call under an idempotency key, from its claim to its end."""

    idempotency: Idempotency
    caller: Caller
    """Looked up anew if the API key had changed."""
    claim: Claim
    call: Call | None = None
    kept: bool = False

    async def keep(self, kept: Kept) -> None:
        """A charged call is about to be answered: remember that, and how if it is not too long.

        One that is cancelled meanwhile has ended all the same: it is kept, and whoever is there has it.
        """
        self.kept = True
        try:
            await self._keep(kept)
        except asyncio.CancelledError:
            await self._keep(kept)

    async def _keep(self, kept: Kept) -> None:
        if len(kept.body) <= settings.IDEMPOTENCY_MOST_BYTES:
            headers = [header for header in kept.headers if header[0] not in _OF_THE_MOMENT]
            await self.idempotency.store(
                self.claim, msgspec.structs.replace(kept, headers=[*headers, _REPLAYED])
            )
        crash.point("before_claim_done")
        await self.idempotency.claims.finish(self.claim)

    def is_charged(self) -> bool:
        return self.call is not None and self.call.status in generation.CHARGED

    def close(self) -> None:
        """The call is over, whichever way."""
        if self.claim.state != claims.LIVE:
            return
        if self.is_charged():
            self.idempotency.claims.finish_later(self.claim)
        else:
            self.idempotency.claims.drop(self.claim)


@dataclass(slots=True)
class Idempotency:
    admission: Admission
    claims: Claims = field(init=False)
    _client: kv.AsyncClient = field(init=False)
    _cache: kv.TickPipeline = field(init=False)

    def __post_init__(self) -> None:
        self.claims = Claims(self.admission)
        self._client = kv.async_cache()
        self._cache = kv.TickPipeline(self._client)

    async def begin(
        self, callers: Callers, text: str, caller: Caller, *, key: bytes, request: bytes
    ) -> Once | Kept:
        """Take the key for a request, or have the answer of the call that has it. Raises Refusal.

        `text` is the API key, `request` the path and the exact bytes of the body.
        """
        name = _readable(key)
        for _ in range(_TRIES):
            found = await self.claims.claim(caller.principal, name, request)
            if isinstance(found, Claim):
                return Once(self, caller, found)
            if found.state == "key":
                caller = await callers.renew(text, caller)
            elif found.state == "done":
                return await self._answer(caller.principal.organization, found.generation)
            else:
                raise _refusal(found.state, found.generation)
        raise unavailable("The gate")

    async def store(self, claim: Claim, kept: Kept) -> None:
        """Bounded in bytes and in time. An answer that cannot be kept is still given, this once."""
        # The door to Redis carries text: each byte is a character of it.
        packed = msgspec.msgpack.encode(kept).decode("latin-1")
        seconds, most = settings.IDEMPOTENCY_SECONDS, settings.IDEMPOTENCY_ORGANIZATION_BYTES
        try:
            await self._ask(
                _KEEP,
                [_answer_key(claim.organization, claim.generation), f"{{{claim.organization}}}:answers"],
                [claim.generation, packed, seconds, most],
            )
        except (kv.Failed, TimeoutError) as error:
            log.warning("an answer was not kept", extra={"call": claim.generation, "error": str(error)})

    async def keep(self) -> None:
        """For as long as the process lives."""
        await self.claims.keep()

    async def close(self) -> None:
        await self._cache.close()
        await self._client.aclose()

    async def _answer(self, organization: str, public_id: str) -> Kept:
        try:
            packed = await self._ask(_READ, [_answer_key(organization, public_id)], [])
        except (kv.Failed, TimeoutError) as error:
            raise unavailable("The answer that was kept") from error
        if packed is None:
            raise _refusal("done", public_id)
        return msgspec.msgpack.decode(packed.encode("latin-1"), type=Kept)

    async def _ask(self, source: str, keys: list[str], arguments: list[str | int]) -> Any:
        async with asyncio.timeout(_STORE_SECONDS):
            return await self._cache.run(source, keys, arguments)


def _answer_key(organization: str, public_id: str) -> str:
    return f"{{{organization}}}:answer:{public_id}"


def _readable(key: bytes) -> str:
    text = key.decode("latin-1")
    if not 0 < len(text) <= MOST_CHARACTERS or not (text.isascii() and text.isprintable()):
        raise Refusal(
            "invalid_idempotency_key",
            f"`Idempotency-Key` must have 1 to {MOST_CHARACTERS} printable ASCII characters.",
            param="Idempotency-Key",
        )
    return text


def _refusal(state: str, public_id: str) -> Refusal:
    metadata = {"generation_id": public_id}
    if state == "live":
        return Refusal(
            "idempotency_in_flight",
            "A call with this Idempotency-Key is under way. Its answer can be had once it has ended.",
            status=409,
            retry_after=1,
            metadata=metadata,
        )
    if state == "done":
        return Refusal(
            "idempotency_answer_not_kept",
            "The call with this Idempotency-Key was made, and its answer is not kept. "
            f"`GET /generation?id={public_id}` tells what became of it. To ask again, send another key.",
            status=409,
            metadata=metadata,
        )
    return Refusal(
        "idempotency_mismatch",
        "This Idempotency-Key was sent with another request. Send each request with a key of its own.",
        status=422,
        metadata=metadata,
    )
