"""A sandbox of a test's own, in a thread, on a free port; and listings made from the catalog's files."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import uvloop

from billing.core.pricing import parse_price
from routing import catalog
from routing.core.listing import Endpoint, Listing, Model, Provider
from routing.sandbox.app import Sandbox
from routing.sandbox.bill import Bill

HTTP = httpx.Client(verify=False, limits=httpx.Limits(max_keepalive_connections=0))
"""One client for all: loading certificates anew for every plain request would take most of the time."""
_files = functools.cache(catalog.load)
AUTHORIZED = {"Authorization": "Bearer simulated"}


@dataclass
class Running:
    base_url: str
    bill: Bill

    def url(self, provider: str) -> str:
        return f"{self.base_url}/{provider}/v1/chat/completions"

    def post(self, provider: str, **body: object) -> httpx.Response:
        return HTTP.post(self.url(provider), json=body, headers=AUTHORIZED, timeout=10)


@contextlib.contextmanager
def running(*, pace: float = 0.0) -> Iterator[Running]:
    """A sandbox that answers at once, unless `pace` says otherwise."""
    ready: list[int] = []
    up = threading.Event()
    sandbox = Sandbox(pace=pace)
    loop = uvloop.new_event_loop()

    async def serve() -> None:
        server = await sandbox.listen("127.0.0.1", 0)
        ready.append(server.sockets[0].getsockname()[1])
        up.set()
        await stop.wait()
        server.close()
        sandbox.close_connections()
        await asyncio.sleep(0.01)

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert up.wait(5)
    try:
        yield Running(f"http://127.0.0.1:{ready[0]}", sandbox.bill)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()


def listed(*, providers: str = "sandbox-") -> Listing:
    """The catalog files as a listing, for endpoints whose price the file states."""
    files = _files()
    models = {
        slug: Model(
            slug=slug,
            name=model.name,
            context_length=model.context_length,
            max_output=model.max_output,
            model_class=model.model_class,
            auto=model.auto,
            capabilities=model.capabilities,
            created=0,
        )
        for slug, model in files.models.items()
    }
    endpoints: dict[str, tuple[Endpoint, ...]] = {}
    for number, (slug, said) in enumerate(sorted(files.endpoints.items()), 1):
        if said.prices is None or not said.provider.startswith(providers):
            continue
        endpoint = Endpoint(
            slug=slug,
            provider=Provider(said.provider, said.provider, "openai", "http://127.0.0.1:1/v1", "simulated"),
            model=models[said.model],
            upstream_name=said.upstream_name,
            max_output=said.max_output,
            price=parse_price(number, said.prices),
            ttft_seconds=said.ttft_ms / 1000,
            tokens_per_second=said.tokens_per_second,
            quantization=said.quantization,
            parameters=said.parameters,
            max_context=said.max_context,
        )
        endpoints[said.model] = (*endpoints.get(said.model, ()), endpoint)
    return Listing(1, models, endpoints)
