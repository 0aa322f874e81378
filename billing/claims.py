"""Idempotency keys: one call and one bill for a key of an organization, however often it is sent.

A claim lies in the gate, under the organization's own hash tag:

live    its call is under way. The claim is a lease that the call's process renews.
done    the call was charged or answered, so nothing is called again until the claim is forgotten.
absent  nobody sent the key yet, or its call came to nothing and was free: the key may be used.

A lease that ran out belonged to a process that is gone. The gate's receipt and PostgreSQL then tell whether
its call was charged; if it was not, the next request takes the key over. As with a hold, a process that
lives and yet could not renew in time may find its claim taken; and an emptied gate knows nothing of a key
until the process of its call renews the claim.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import uuid
from dataclasses import dataclass, field

from django.conf import settings
from django.db import Error as DatabaseError

from accounts.principal import Principal
from aggregator.lib import ids, kv
from aggregator.lib.errors import Refusal, unavailable
from aggregator.lib.threads import in_thread
from billing import gate, gate_scripts, generation, statements
from billing.admission import Admission

log = logging.getLogger(__name__)

MOST_CLAIMS = 100_000
"""Of one organization; beyond them its oldest are forgotten."""
_KEEP_SECONDS = 0.5
_LOOK_SECONDS = 5.0
_TRIES = 3


@dataclass(slots=True)
class Claim:
    """What this process has of a key. `request` is the digest of what was asked with it."""

    organization: str
    member: str
    request: str
    id: uuid.UUID = field(default_factory=ids.uuid7)
    """Of the generation that the call will be."""
    done: bool = False
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
        return [self.member, self.request, self.generation, lease, *kept]


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
        claim = Claim(principal.organization, digest(key.encode()), digest(request))
        keys = [*claim.keys, f"{kv.shard(principal.organization)}:k:{principal.key}"]
        lapsed = ""
        for _ in range(_TRIES):
            arguments = [*claim.arguments(), lapsed, principal.key_version]
            try:
                state, found = await self.admission.ask(gate_scripts.CLAIM, keys, arguments)
            except (Refusal, asyncio.CancelledError):
                self.drop(claim)
                raise
            if state == "ok":
                self._open[claim.generation] = claim
                return claim
            if state != "lapsed":
                return Found(state, found)
            if await _was_charged(principal, found):
                return Found("done", found)
            lapsed = found
        raise unavailable("The gate")

    async def finish(self, claim: Claim) -> None:
        """The claim is done. When the gate does not hear of it now, it is told again."""
        claim.done = True
        try:
            await self._tell(claim)
        except Refusal:
            log.info("a claim is told again", extra={"call": claim.generation})

    def drop(self, claim: Claim) -> None:
        """Its call came to nothing and was free. If the gate does not hear of it, the lease runs out."""
        self._open.pop(claim.generation, None)
        dropped = self.admission.pipeline.run(
            gate_scripts.DROP_CLAIM, claim.keys, [claim.member, claim.generation]
        )
        dropped.add_done_callback(lambda told: told.cancelled() or told.exception())

    async def keep(self) -> None:
        """For as long as the process lives: renew, and tell what the gate has not heard."""
        while True:
            await asyncio.sleep(_KEEP_SECONDS)
            due = time.monotonic() - settings.HOLD_LEASE_SECONDS / 3
            for claim in list(self._open.values()):
                if claim.generation in self._open and (claim.done or claim.renewed <= due):
                    try:
                        await self._tell(claim)
                    except Refusal:
                        break  # the rest when the gate is back

    async def _tell(self, claim: Claim) -> None:
        done = claim.done
        arguments = [*claim.arguments(), "done" if done else "live"]
        if await self.admission.ask(gate_scripts.KEEP_CLAIM, claim.keys, arguments) == "lost":
            log.error("an idempotency key was claimed by another call", extra={"call": claim.generation})
            self._open.pop(claim.generation, None)
            return
        claim.renewed = time.monotonic()
        if done:
            self._open.pop(claim.generation, None)
        elif claim.generation not in self._open and not claim.done:
            self.drop(claim)  # dropped while it was being renewed


async def _was_charged(principal: Principal, public_id: str) -> bool:
    look = in_thread(_status, principal.organization, principal.organization_id, public_id)
    try:
        return await asyncio.wait_for(look, _LOOK_SECONDS) in generation.CHARGED
    except (DatabaseError, kv.Failed, TimeoutError) as error:
        raise unavailable("Billing") from error


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
