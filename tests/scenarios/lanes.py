"""Steady load on several worlds at once, through the public API: what each client saw, call by call."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.scenarios.worlds import CALLS_PER_SECOND, TOKENS, Event, World

ChangePrice = Callable[[Event], Awaitable[None]]

_MOST_SECONDS = 30.0
_DONE = b"data: [DONE]"


@dataclass
class Asked:
    """One call as its client saw it. `began` is Unix time."""

    label: str
    began: float
    status: int = 0
    whole: bool = False
    endpoint: str = ""
    """What the head says has served it."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Lane:
    world: World
    key: str


async def drive(
    lanes: list[Lane], api_base: str, *, began: float, change_price: ChangePrice
) -> list[list[Asked]]:
    """Load all lanes from `began` (Unix time) on, each for as long as its world lasts."""
    async with asyncio.TaskGroup() as group:
        for lane in lanes:
            for event in lane.world.events:
                if event.dearer != 1:
                    group.create_task(_at(began + event.after, change_price, event))
        loads = [group.create_task(_load(lane, api_base, began)) for lane in lanes]
    return [load.result() for load in loads]


async def _at(when: float, what: ChangePrice, event: Event) -> None:
    await asyncio.sleep(when - time.time())
    await what(event)


async def _load(lane: Lane, api_base: str, began: float) -> list[Asked]:
    """An even load, a little jittered, that waits for nobody."""
    world = lane.world
    chance = random.Random(f"load:{world.name}")
    calls = int(world.seconds * CALLS_PER_SECOND)
    found: list[asyncio.Task[Asked]] = []
    async with asyncio.TaskGroup() as group:
        for number in range(calls):
            due = began + (number + chance.uniform(0, 0.8)) / CALLS_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.time()))
            found.append(group.create_task(_ask(lane, api_base, f"{world.name}-{number}")))
    return [task.result() for task in found]


async def _ask(lane: Lane, api_base: str, label: str) -> Asked:
    """One streamed call on a connection of its own, so that every worker of the gateway is met."""
    where = urlsplit(api_base)
    world = lane.world
    body: dict[str, object] = {
        "model": "auto" if world.auto else world.models[0],
        "messages": [{"role": "user", "content": f"Call {label}: how do lighthouses talk to ships?"}],
        "user": label,
        "stream": True,
        "max_tokens": TOKENS,
    }
    if world.preference != "default":
        body["route_preference"] = world.preference
    data = json.dumps(body).encode()
    head = (
        f"POST {where.path}/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\n"
        f"Authorization: Bearer {lane.key}\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    asked = Asked(label, time.time())
    try:
        async with asyncio.timeout(_MOST_SECONDS):
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
            writer.write(head.encode() + data)
            _read(asked, await reader.read(-1))
            writer.close()
    except (OSError, TimeoutError):
        asked.whole = False
    asked.seconds = time.time() - asked.began
    return asked


def _read(asked: Asked, answer: bytes) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    said = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
    asked.status = int(first.split()[1]) if first else 0
    asked.endpoint = said.get("x-fairlead-endpoint", "")
    asked.whole = asked.status == 200 and _DONE in body
