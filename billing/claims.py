"""Idempotency keys: one call and one bill for a key of an organization, however often it is sent.

A claim lies in the gate, under the organization's own hash tag:

live    its call is under way. The claim is a lease that the call's process renews.
done    the call was charged or answered, so nothing is called again until the claim is forgotten.
absent  nobody sent the key yet, or its call came to nothing and was free: the key may be used.

A lease that ran out belonged to a process that is gone, or cut off from the gate. Its call's record, in the
gate's receipt or in PostgreSQL, tells whether it was charged. While there is none and the process's spool is
open, the record may still come, and the call counts as live; once the spool is closed, nothing was charged
and the next request takes the key over. An emptied gate knows nothing of a key until it is renewed.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError

from accounts.core.principal import Principal
from aggregator.lib import ids, kv
from aggregator.lib.errors import Refusal, unavailable
from aggregator.lib.threads import in_thread
from billing import flush, gate, statements
from billing.admission import Admission
from billing.core import claim_scripts, generation

log = logging.getLogger(__name__)

MOST_CLAIMS = 100_000
"""Of one organization; beyond them its oldest are forgotten."""
_KEEP_SECONDS = 0.5
_LOOK_SECONDS = 5.0
_TRIES = 3
_MOST_OWED = 10_000
"""Dropped claims of which the gate has not heard; beyond them it hears of none again."""

LIVE, DONE, DROPPED = "live", "done", "dropped"


@dataclass(slots=True)
class Claim:
    """What this process has of a key. `request` is the digest of what was asked with it."""

    organization: str
    member: str
    request: str
    spool: str
    """Of this process: open while its records may still come."""
    id: uuid.UUID = field(default_factory=ids.uuid7)
    """Of the generation that the call will be."""
    state: str = LIVE
    renewed: float = field(default_factory=time.monotonic)
    """When the gate last heard of it; monotonic."""

    @property
    def generation(self) -> str:
        return generation.public_id(self.id)

    @property
    def keys(self) -> list[str]:
        shard = kv.shard(self.organization)
        return [f"{shard}:i:{self.organization}:{self.member}", f"{shard}:i:{self.organization}"]

    def arguments(self) -> list[str | int]:
        lease = settings.HOLD_LEASE_SECONDS * 1000
        kept = (settings.IDEMPOTENCY_SECONDS, MOST_CLAIMS)
        return [self.member, self.request, self.generation, self.spool, lease, *kept]


@dataclass(frozen=True, slots=True)
class Found:
    """The key is not to be had: its call is `live` or `done`, or was an `other` request.

    `key`: the API key has changed since it was last looked up; ask PostgreSQL, then again.
    """

    state: str
    generation: str


@dataclass(slots=True)
class Claims:
    """The claims of this process. Belongs to the event loop."""

    admission: Admission
    _open: dict[str, Claim] = field(default_factory=dict)

    async def claim(self, principal: Principal, key: str, request: bytes) -> Claim | Found:
        """Take `key` for `request`. Raises Refusal 503 when neither the gate nor PostgreSQL can say."""
        spool = self.admission.spool.id
        claim = Claim(principal.organization, digest(key.encode()), digest(request), spool)
        keys = [*claim.keys, f"{kv.shard(principal.organization)}:k:{principal.key}"]
        lapsed = ""
        for _ in range(_TRIES):
            arguments = [*claim.arguments(), lapsed, principal.key_version]
            try:
                state, found, spool = await self.admission.ask(claim_scripts.CLAIM, keys, arguments)
            except (Refusal, asyncio.CancelledError):
                self.drop(claim)
                raise
            if state == "ok":
                self._open[claim.generation] = claim
                return claim
            if state != "lapsed":
                return Found(state, found)
            fate = await _fate(principal, found, spool)
            if fate != DROPPED:
                return Found(fate, found)
            lapsed = found
        raise unavailable("The gate")

    async def finish(self, claim: Claim) -> None:
        """The claim is done. When the gate does not hear of it now, it is told again."""
        self.finish_later(claim)
        try:
            await self._tell(claim)
        except Refusal:
            log.info("a claim is told again", extra={"call": claim.generation})

    def finish_later(self, claim: Claim) -> None:
        claim.state = DONE

    def drop(self, claim: Claim) -> None:
        """Its call came to nothing and was free. The gate is told now, and again until it has heard."""
        claim.state = DROPPED
        if len(self._open) < _MOST_OWED:
            self._open[claim.generation] = claim
        arguments = [claim.member, claim.generation]
        dropped = self.admission.pipeline.run(claim_scripts.DROP, claim.keys, arguments)
        dropped.add_done_callback(functools.partial(self._dropped, claim))

    def _dropped(self, claim: Claim, told: asyncio.Future[Any]) -> None:
        if not told.cancelled() and told.exception() is None:
            self._open.pop(claim.generation, None)

    async def keep(self) -> None:
        """For as long as the process lives: renew, and tell what the gate has not heard."""
        while True:
            await asyncio.sleep(_KEEP_SECONDS)
            due = time.monotonic() - settings.HOLD_LEASE_SECONDS / 3
            for claim in list(self._open.values()):
                if claim.generation in self._open and (claim.state != LIVE or claim.renewed <= due):
                    try:
                        await self._tell(claim)
                    except Refusal:
                        break  # the rest when the gate is back

    async def _tell(self, claim: Claim) -> None:
        state = claim.state
        if state == DROPPED:
            await self.admission.ask(claim_scripts.DROP, claim.keys, [claim.member, claim.generation])
            self._open.pop(claim.generation, None)
            return
        arguments = [*claim.arguments(), state]
        if await self.admission.ask(claim_scripts.KEEP, claim.keys, arguments) == "lost":
            log.error("an idempotency key was claimed by another call", extra={"call": claim.generation})
            self._open.pop(claim.generation, None)
            return
        claim.renewed = time.monotonic()
        if state == DONE:
            self._open.pop(claim.generation, None)
        elif claim.state == DROPPED:
            self.drop(claim)  # while it was being renewed


async def _fate(principal: Principal, public_id: str, spool: str) -> str:
    """Of a call whose claim ran out: `done` if it was charged, `live` while nobody knows, or `dropped`."""
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            return await in_thread(_look, principal, public_id, spool)
    except (DatabaseError, kv.Failed, TimeoutError) as error:
        raise unavailable("Billing") from error


def _look(principal: Principal, public_id: str, spool: str) -> str:
    """The spool first: when it is closed, all its records are written."""
    undecided = LIVE if flush.is_open(spool) else DROPPED
    status = _status(principal.organization, principal.organization_id, public_id)
    if not status:
        return undecided
    return DONE if status in generation.CHARGED else DROPPED


def _status(organization: str, organization_id: int, public_id: str) -> str:
    """What became of a call; empty while nobody knows of it."""
    receipt = gate.receipt(organization, public_id)
    if receipt is not None:
        return generation.decode(receipt).status
    found = generation.parse_public_id(public_id)
    call = None if found is None else statements.find_call(organization_id, found)
    return "" if call is None else call.status


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
