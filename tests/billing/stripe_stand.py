"""One simulated Stripe for a process of tests: on a free port, in a thread, with nothing kept on disk.

    stand = stripe_stand.running()      # starts at the first call, 0.2 s; then costs nothing
    stand.reset()                       # an account in which nothing ever happened
    client = stripe.StripeClient(stand.key, base_addresses={"api": stand.url})

No webhook leaves it before `stand.send_webhooks_to(url, secret)`. `stand.signed(event)` gives the bytes and
the header of one, to hand to a view.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import json
import socket
import threading
import time
from concurrent.futures import Future
from typing import Any

import httpx
import stripe
import uvicorn

from billing.sandbox.account import shown
from billing.sandbox.app import Sandbox
from billing.sandbox.deliveries import signature

KEY = "sk_test_" + "sandbox"
WEBHOOK_SECRET = "whsec_" + "sandbox"


class Stand:
    def __init__(self) -> None:
        # Named as TCP, or asyncio would leave Nagle's algorithm on: 40 ms for each answer.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        self.key = KEY
        self.webhook_secret = WEBHOOK_SECRET
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        ready: Future[Sandbox] = Future()
        threading.Thread(target=self._serve, args=(listening, ready), name="stripe", daemon=True).start()
        self._sandbox = ready.result(10)
        self._http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        atexit.register(self._http.close)

    def _serve(self, listening: socket.socket, ready: Future[Sandbox]) -> None:
        async def run() -> None:
            sandbox = Sandbox(":memory:", key=KEY, url=self.url)
            config = uvicorn.Config(
                sandbox, log_level="critical", access_log=False, lifespan="off", timeout_graceful_shutdown=1
            )
            ready.set_result(sandbox)
            await uvicorn.Server(config).serve(sockets=[listening])

        asyncio.run(run())

    def client(self, **options: Any) -> stripe.StripeClient:
        """A client of the real library that speaks to this sandbox."""
        if "http_client" not in options:
            # One pool for all threads: sessions of its own for each would be left open when a thread ends.
            options["http_client"] = stripe.HTTPXClient(timeout=30, allow_sync_methods=True)
            atexit.register(options["http_client"].close)
        return stripe.StripeClient(self.key, base_addresses={"api": self.url}, **options)

    def submit_json(self, path: str, told: dict[str, Any]) -> httpx.Response:
        return self._http.post(path, json=told)

    # Control.

    def control(self, what: str, **told: Any) -> Any:
        """POST to `/_sandbox/…`."""
        answer = self._http.post(f"/_sandbox/{what}", json=told)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def look(self, what: str, **query: str) -> Any:
        """GET of `/_sandbox/…`."""
        answer = self._http.get(f"/_sandbox/{what}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def reset(self) -> None:
        self.control("reset")
        self.control("webhooks", url="")

    def mishap(self, call: str, kind: str, times: int = 1, seconds: float = 30) -> None:
        """The next calls to `call`, such as "POST /v1/refunds": lose, hang, slow, error or limit."""
        self.control("mishaps", call=call, kind=kind, times=times, seconds=seconds)

    def send_webhooks_to(self, url: str, secret: str = WEBHOOK_SECRET, **modes: Any) -> None:
        self.control("webhooks", url=url, secret=secret, **modes)

    def deliveries(self) -> list[dict[str, Any]]:
        """The newest first."""
        found: list[dict[str, Any]] = self.look("webhooks")["deliveries"]
        return found

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """What happened, the oldest first; of these types, or all."""
        found = [shown(event) for event in self._sandbox.account.find("event")]
        return [event for event in reversed(found) if not kinds or event["type"] in kinds]

    def signed(self, event: dict[str, Any], secret: str = WEBHOOK_SECRET, at: int = 0) -> tuple[bytes, str]:
        """A webhook's body and its `Stripe-Signature`; `at` in Unix seconds, 0: now."""
        payload = json.dumps(event).encode()
        return payload, signature(payload, secret, at or int(time.time()))

    # What a person does on the hosted pages.

    def open(self, url: str) -> httpx.Response:
        """Look at a hosted page."""
        return self._http.get(url)

    def submit(self, url: str, **typed: str) -> httpx.Response:
        """Post a form of a hosted page; the answer is not followed."""
        return self._http.post(url, data=typed)

    def pay(
        self,
        checkout_url: str,
        number: str = "4242424242424242",
        *,
        email: str = "pat@example.com",
        **typed: str,
    ) -> httpx.Response:
        """Fill in the checkout and pay with this card: 303 to the success page or to 3-D Secure, or 402."""
        card = {"number": number, "expiry": "12/34", "cvc": "123", "method": "new"}
        return self.submit(checkout_url, **{**card, "email": email, **typed})

    def authenticate(self, page_url: str, *, completed: bool = True) -> httpx.Response:
        """Answer the 3-D Secure step, to whose page `pay` redirected."""
        return self.submit(page_url, result="complete" if completed else "fail")


@functools.cache
def running() -> Stand:
    return Stand()
