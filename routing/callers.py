"""Who is calling and on what terms, remembered by this worker.

The gate compares the versions of both at every admission, so what is remembered may be old but is
never acted upon when it is. A typo falls to the checksum without a look-up; an unknown key is
remembered for a moment, so that repeating it costs the database nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeVar

from django.conf import settings
from django.db import Error as DatabaseError

from accounts import keyring, keys, tokens
from accounts.principal import Principal
from aggregator.lib import kv
from aggregator.lib.errors import Refusal, unavailable
from aggregator.lib.threads import in_thread
from billing import plans, wallets
from billing.plans import Terms

T = TypeVar("T")

_MOST_REMEMBERED = 50_000
_REFUSED_SECONDS = 2.0
_ASK_SECONDS = 5.0
"""A database that does not answer holds up a thread, never a customer."""


@dataclass(frozen=True, slots=True)
class Caller:
    text_digest: bytes
    principal: Principal
    terms: Terms
    asked_at: float
    """Monotonic."""


@dataclass(slots=True)
class Callers:
    """Cached by the HMAC of the whole key, which names its organization too."""

    _known: OrderedDict[bytes, Caller] = field(default_factory=OrderedDict)
    _refused: OrderedDict[bytes, tuple[float, Refusal]] = field(default_factory=OrderedDict)
    _asking: dict[bytes, asyncio.Task[Caller]] = field(default_factory=dict)

    async def of(self, text: str) -> Caller:
        """Raises Refusal 401 with a type of its own for each reason, 503 when nobody can say."""
        keys.check(text)
        digest = tokens.digest(text, settings.KEY_PEPPER)
        caller = self._known.get(digest)
        if caller is not None and self._is_fresh(caller):
            return caller
        refused = self._refused.get(digest)
        if refused is not None and refused[0] > time.monotonic():
            raise refused[1]
        return await self.ask(text, digest)

    async def ask(self, text: str, digest: bytes) -> Caller:
        """Ask PostgreSQL, once however many requests wait for the answer, and tell the gate its version."""
        task = self._asking.get(digest)
        if task is None:
            task = asyncio.get_running_loop().create_task(in_thread(_ask, text, digest))
            self._asking[digest] = task
            task.add_done_callback(lambda _: self._asking.pop(digest, None))
        try:
            caller = await asyncio.wait_for(asyncio.shield(task), _ASK_SECONDS)
        except Refusal as refusal:
            self._known.pop(digest, None)
            if refusal.error_type == "unknown_key":  # the others may be lifted at any moment
                _remember(self._refused, digest, (time.monotonic() + _REFUSED_SECONDS, refusal))
            raise
        except (DatabaseError, kv.Failed, TimeoutError) as error:
            raise unavailable("The key store") from error
        self._refused.pop(digest, None)
        _remember(self._known, digest, caller)
        return caller

    def _is_fresh(self, caller: Caller) -> bool:
        expires_at = caller.principal.expires_at
        return (expires_at is None or expires_at > time.time()) and (
            time.monotonic() - caller.asked_at < settings.KEY_CACHE_SECONDS
        )


def _ask(text: str, digest: bytes) -> Caller:
    principal = keys.principal(text)
    wallets.open_wallet(principal.organization_id)
    terms = plans.terms(principal.organization_id)
    keyring.load(principal)
    return Caller(digest, principal, terms, time.monotonic())


def _remember(store: OrderedDict[bytes, T], digest: bytes, value: T) -> None:
    store[digest] = value
    store.move_to_end(digest)
    while len(store) > _MOST_REMEMBERED:
        store.popitem(last=False)
