"""A running product with two gateway workers, and worlds played on it: some at a time, side by side."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.desk import Desk
from tests.product import Product
from tests.routing.gateway.caller import Sandbox
from tests.scenarios import lanes, oracle
from tests.scenarios.oracle import Attempt, Verdict
from tests.scenarios.worlds import Event, World

SETTINGS = {
    "WEB_CONCURRENCY": "2",
    "FIRST_EVENT_SECONDS": "2",
    "IDLE_SECONDS": "5",
    "TOTAL_SECONDS": "20",
    "STARTING_CREDIT_USD": "0",
    "GATE_TIMEOUT_MS": "2000",
    "EXPLORE": "1",
}
_LISTED_SECONDS = 2.5
"""Until every worker has the new listing."""
_HEAD_START = 0.5


@dataclass
class Stage:
    product: Product
    desk: Desk
    sandbox: Sandbox

    def play(self, worlds: Sequence[World], *, seed: int) -> list[Verdict]:
        """Play some worlds at the same time, each with providers, models and a key of its own."""
        self._set_up(worlds)
        running = [lanes.Lane(world, self._key(world)) for world in worlds]
        time.sleep(_LISTED_SECONDS)
        posted = self._post(worlds, seed=seed)
        began = posted + _HEAD_START
        driven = lanes.drive(running, self.product.api_base, began=began, change_price=self._change_price())
        answers = asyncio.run(driven)
        attempts = self._attempts(posted, began)
        self.desk.retire_models([model for world in worlds for model in world.models])
        return [_judged(world, asked, attempts, began) for world, asked in zip(worlds, answers, strict=True)]

    def _set_up(self, worlds: Sequence[World]) -> None:
        self.sandbox.http.post(f"{self.sandbox.url}/_sandbox/reset")
        self.desk.list_models({model: said for world in worlds for model, said in world.listed().items()})
        autos = [model for world in worlds if world.auto for model in world.models]
        self.desk.offer_in_auto(autos)

    def _key(self, world: World) -> str:
        organization = self.desk.open(usd="1000")
        limits = {"allowed_models": list(world.models)} if world.auto else {}
        return self.desk.key(organization, **limits)[0]

    def _post(self, worlds: Sequence[World], *, seed: int) -> float:
        """When the sandbox's clock started, as Unix time."""
        said = {
            "seed": seed,
            "offers": [offer for world in worlds for offer in world.offers()],
            "conditions": [event.as_condition(_HEAD_START) for world in worlds for event in world.events],
        }
        reply = self.sandbox.http.post(f"{self.sandbox.url}/_sandbox/conditions", json=said)
        assert reply.status_code == 200, reply.text
        return float(reply.json()["at"])

    def _change_price(self) -> lanes.ChangePrice:
        """The catalog's price goes with the provider's; one at a time, the desk has one pipe."""
        in_turn = asyncio.Lock()

        async def change(event: Event) -> None:
            async with in_turn:
                await asyncio.to_thread(
                    self.desk.change_catalog, event.place.slug, prices=event.prices(), retire=False
                )

        return change

    def _attempts(self, since: float, began: float) -> list[Attempt]:
        """All that the providers saw, once nothing is under way."""
        until = time.monotonic() + 10
        while self.sandbox.calls()["in_flight"] and time.monotonic() < until:
            time.sleep(0.1)
        return [
            Attempt(call["user"], call["provider"], call["at"] - began, call["ending"])
            for call in self.sandbox.bill(since=str(since))["calls"]
        ]


def _judged(world: World, asked: Sequence[lanes.Asked], attempts: Sequence[Attempt], began: float) -> Verdict:
    """The oracle's verdict; and what the gateway told its clients must be what the providers saw."""
    verdict = oracle.judge(world, {call.label: (call.began - began, call.whole) for call in asked}, attempts)
    last = {attempt.label: attempt.provider for attempt in sorted(attempts, key=lambda found: found.at)}
    for call in asked:
        told = call.endpoint.partition(":")[0]
        assert not call.whole or told == last.get(call.label), (call, last.get(call.label))
    return verdict


@contextlib.contextmanager
def running(folder: Path, **settings: str) -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        product = Product.launch(folder / "var", **{**SETTINGS, **settings})
        stack.callback(product.stop)
        desk = Desk(product)
        stack.callback(desk.close)
        sandbox = stack.enter_context(Sandbox(product.sandbox_url))
        yield Stage(product, desk, sandbox)
