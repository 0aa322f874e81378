"""Who is calling and on what terms, remembered by this worker.

The gate compares the versions of both at every admission, so what is remembered may be old but is
never acted upon when it is. That is why an aged key is served at once and asked for again behind it, and
why a known-good key goes on while PostgreSQL is away. A typo falls to the checksum without a look-up; an
unknown key is remembered for a moment, so that repeating it costs the database nothing.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from django.conf import settings
from django.db import Error as DatabaseError

from accounts import keyring, keys
from accounts.core import tokens
from accounts.core.principal import Principal
from aggregator.lib import kv
from aggregator.lib.errors import Refusal, unavailable
from aggregator.lib.threads import in_pool
from billing import limits, plans, wallets
from billing.plans import Terms

log = logging.getLogger(__name__)

T = TypeVar("T")

_MOST_REMEMBERED = 50_000
_MOST_ASKING = 1000
_REFUSED_SECONDS = 2.0
_ASK_SECONDS = 1.0
"""A database that does not answer holds up a thread, never a customer."""
_ASK_AGAIN_SECONDS = 2.0
_THREADS = 4
_JITTER = 0.2
"""Keys that were learnt together are not asked for together."""


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
    _not_before: OrderedDict[bytes, float] = field(default_factory=OrderedDict)
    """When to ask again for a known key whose asking failed."""

    async def of(self, text: str) -> Caller:
        """Raises Refusal 401 with a type of its own for each reason, 503 when nobody can say."""
        digest = tokens.digest(text, settings.KEY_PEPPER)
        caller = self._known.get(digest)
        if caller is not None:
            age = time.monotonic() - caller.asked_at
            expires_at = caller.principal.expires_at
            if expires_at is None or expires_at > time.time():
                if age < settings.KEY_CACHE_SECONDS:
                    return caller
                if age < settings.KEY_STALE_SECONDS:
                    self._refresh(text, digest)
                    return caller
        refused = self._refused.get(digest)
        if refused is not None and refused[0] > time.monotonic():
            raise refused[1]
        keys.check(text)
        return await self._ask(text, digest)

    async def renew(self, text: str, old: Caller) -> Caller:
        """In place of one that the gate found old: what was learnt since, or else PostgreSQL's answer."""
        known = self._known.get(old.text_digest)
        if known is not None and known is not old:
            return known
        return await self._ask(text, old.text_digest)

    async def _ask(self, text: str, digest: bytes) -> Caller:
        try:
            return await asyncio.shield(self._asked(text, digest))
        except (DatabaseError, kv.Failed, TimeoutError) as error:
            raise unavailable("The key store") from error

    def _refresh(self, text: str, digest: bytes) -> None:
        """Ask behind a call that is served with what is known."""
        if digest in self._asking or self._not_before.get(digest, 0) > time.monotonic():
            return
        try:
            self._asked(text, digest)
        except Refusal:
            return  # too many are asking; the next call tries again

    def _asked(self, text: str, digest: bytes) -> asyncio.Task[Caller]:
        """Ask PostgreSQL, once however many wait for the answer, and tell the gate its version.

        Raises Refusal 503 when too many keys are being asked for already.
        """
        task = self._asking.get(digest)
        if task is None:
            if len(self._asking) >= _MOST_ASKING:
                raise unavailable("The key store")
            task = asyncio.get_running_loop().create_task(_within_time(text, digest))
            self._asking[digest] = task
            task.add_done_callback(functools.partial(self._answered, digest))
        return task

    def _answered(self, digest: bytes, task: asyncio.Task[Caller]) -> None:
        self._asking.pop(digest, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._refused.pop(digest, None)
            self._not_before.pop(digest, None)
            _remember(self._known, digest, task.result())
        elif isinstance(error, Refusal):
            self._known.pop(digest, None)
            if error.error_type == "unknown_key":  # the others may be lifted at any moment
                _remember(self._refused, digest, (time.monotonic() + _REFUSED_SECONDS, error))
        elif digest in self._known:
            log.warning("a known key is served without asking", extra={"error": str(error)})
            _remember(self._not_before, digest, time.monotonic() + _ASK_AGAIN_SECONDS)


async def _within_time(text: str, digest: bytes) -> Caller:
    """A look-up that has not begun when its time is over is not made."""
    async with asyncio.timeout(_ASK_SECONDS):
        return await in_pool(_pool(), _look_up, text, digest)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Its own: whatever else holds up the threads of billing, keys are looked up, and the other way round."""
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="keys")


def _look_up(text: str, digest: bytes) -> Caller:
    principal = keys.principal(text)
    # After the key was read: budgets that change in between leave an old version of it.
    principal = replace(principal, budgets=limits.applying(principal))
    wallets.open_wallet(principal.organization_id)
    terms = plans.terms(principal.organization_id)
    keyring.load(principal)
    aged = random.uniform(0, _JITTER) * settings.KEY_CACHE_SECONDS  # noqa: S311 (spreads look-ups)
    if terms.frozen or principal.policy is not None:  # looked up again soon in any case
        aged = 0
    return Caller(digest, principal, terms, time.monotonic() - aged)


def _remember(store: OrderedDict[bytes, T], digest: bytes, value: T) -> None:
    store[digest] = value
    store.move_to_end(digest)
    while len(store) > _MOST_REMEMBERED:
        store.popitem(last=False)
