"""Webhooks: each event signed and posted to whoever wants it, again until the answer is 2xx.

A delivery may be told to come late, twice, in another order, or not before it is released.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

from billing.sandbox.account import Account, shown
from billing.sandbox.events import matches
from billing.sandbox.refusals import Thing

_TIMEOUT_SECONDS = 20
_MOST_PAUSE_SECONDS = 60
_MOST_ATTEMPTS = 40
_AT_ONCE = 8


class Deliveries:
    """`modes`: delay_seconds, duplicates (further copies), shuffle (seconds to scatter over), hold, lose."""

    def __init__(self, account: Account, *, url: str = "", secret: str = "") -> None:
        self._account = account
        self._own = (url, secret) if url else None
        self.modes: Thing = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._chooser = random.SystemRandom()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.reset()
        account.on_event = self._on_event

    def reset(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.modes = {
            "delay_seconds": 0,
            "duplicates": 0,
            "shuffle_seconds": 0,
            "retry_seconds": 1,
            "hold": False,
            "lose": False,
        }

    def point_to(self, url: str, secret: str) -> None:
        """Where events go from now on, beside the endpoints of the API; an empty URL: nowhere."""
        self._own = (url, secret) if url else None

    def resume(self) -> None:
        """After a restart: go on with what had not arrived."""
        for delivery in list(self._account.find("_delivery", status="pending")):
            self._start(delivery, 0)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def release(self) -> int:
        """Send all that is held, at once; in a random order when shuffling. Gives how many."""
        held = list(self._account.find("_delivery", status="held"))[::-1]
        if self.modes["shuffle_seconds"]:
            self._chooser.shuffle(held)
        for delivery in held:
            delivery["status"] = "pending"
            self._account.changed(delivery)
            self._start(delivery, 0)
        return len(held)

    def send(self, event: Thing, url: str = "") -> None:
        """One more delivery of an event, to every endpoint of it or to the one at `url`."""
        for target, secret in self._targets(event["type"]):
            if not url or url == target:
                self._deliver(event, target, secret)

    def told(self) -> list[Thing]:
        """Every delivery, the newest first."""
        return [shown(each) for each in self._account.find("_delivery")]

    def _targets(self, kind: str) -> list[tuple[str, str]]:
        found = [self._own] if self._own else []
        for endpoint in self._account.find("webhook_endpoint", status="enabled"):
            if matches(kind, endpoint["enabled_events"]):
                found.append((endpoint["url"], endpoint["_secret"]))
        return found

    def _on_event(self, event: Thing) -> None:
        for url, secret in self._targets(event["type"]):
            for _ in range(1 + self.modes["duplicates"]):
                self._deliver(event, url, secret)

    def _deliver(self, event: Thing, url: str, secret: str) -> None:
        modes = self.modes
        status = "lost" if modes["lose"] else "held" if modes["hold"] else "pending"
        delivery = self._account.add(
            "_delivery",
            {"event": event["id"], "type": event["type"], "url": url, "_secret": secret}
            | {"status": status, "attempts": 0, "answer": None},
        )
        if status == "pending":
            scattered = self._chooser.random() * modes["shuffle_seconds"]
            self._start(delivery, modes["delay_seconds"] + scattered)

    def _start(self, delivery: Thing, seconds: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._until_taken(delivery, seconds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_taken(self, delivery: Thing, wait_seconds: Any) -> None:
        """Post until somebody says 2xx, or until nobody ever will."""
        pause_seconds = self.modes["retry_seconds"]
        await asyncio.sleep(wait_seconds)
        while delivery["attempts"] < _MOST_ATTEMPTS:
            event = self._account.lookup(delivery["event"])
            if event is None:
                return
            payload = json.dumps(shown(event), indent=2).encode()
            header = signature(payload, delivery["_secret"], int(time.time()))
            async with self._slots:
                answer = await _post(delivery["url"], payload, header)
            taken = isinstance(answer, int) and 200 <= answer < 300
            delivery["attempts"] += 1
            delivery["answer"] = answer
            if taken:
                delivery["status"] = "delivered"
            self._account.changed(delivery)
            self._account.flush()
            if taken:
                return
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, _MOST_PAUSE_SECONDS)
        delivery["status"] = "failed"
        self._account.changed(delivery)


def signature(payload: bytes, secret: str, timestamp: int) -> str:
    """The `Stripe-Signature` header of a payload."""
    signed = hmac.new(secret.encode(), f"{timestamp}.".encode() + payload, hashlib.sha256)
    return f"t={timestamp},v1={signed.hexdigest()}"


async def _post(url: str, payload: bytes, header: str) -> int | str:
    """The status of the answer, or why there was none."""
    where = urlsplit(url)
    secure = ssl.create_default_context() if where.scheme == "https" else None
    path = (where.path or "/") + (f"?{where.query}" if where.query else "")
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {where.netloc}\r\nUser-Agent: Stripe/1.0 (sandbox)\r\n"
        f"Content-Type: application/json; charset=utf-8\r\nContent-Length: {len(payload)}\r\n"
        f"Stripe-Signature: {header}\r\nConnection: close\r\n\r\n"
    )
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            port = where.port or (443 if secure else 80)
            reader, writer = await asyncio.open_connection(where.hostname, port, ssl=secure)
            try:
                writer.write(head.encode() + payload)
                await writer.drain()
                said = (await reader.readline()).split()
                await reader.read()
                return int(said[1])
            finally:
                writer.close()
    except (OSError, TimeoutError, IndexError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
