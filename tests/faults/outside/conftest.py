"""A running product with one gateway worker, short deadlines, and providers that answer in strange forms.

Each form of `sandbox-strange` is listed twice: alone as `strange/NAME`, and before a healthy second as
`pair/NAME`. Providers that cannot even be reached are listed by `address`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from routing.sandbox.fleet import OFFERS
from tests.desk import Desk
from tests.product import Product
from tests.routing.gateway.caller import Caller, Sandbox

NO_SUCH_NAME = "http://" + ".".join(["no-such-name-" + "x" * 40] * 6)
"""Longer than a name may be: no resolver has to be asked."""
SETTINGS = {
    "WEB_CONCURRENCY": "1",
    "CONNECT_SECONDS": "1",
    "FIRST_EVENT_SECONDS": "3",
    "IDLE_SECONDS": "3",
    "TOTAL_SECONDS": "5",
    "KEEP_ALIVE_SECONDS": "1",
    "STALLED_READER_SECONDS": "2",
    "READ_HEAD_SECONDS": "3",
    "READ_BODY_SECONDS": "3",
    "HOLD_LEASE_SECONDS": "3",
    "OUTSIDE_API_KEY": "simulated",
    "NAMELESS_API_KEY": "simulated",
    "NAMELESS_BASE_URL": NO_SUCH_NAME,
}
PRICES = {"input": "0.40", "output": "1.20"}
FIRST = {"ttft_ms": 20, "tokens_per_second": 500, "prices": {"input": "0.20", "output": "0.60"}}
SECOND = {
    "provider": "sandbox-bench",
    "upstream_name": "instant",
    "ttft_ms": 200,
    "tokens_per_second": 100,
    "prices": {"input": "0.10", "output": "0.40"},
}
"""As the sandbox prices it; slower than the first, so that it is not the choice of `speed`."""


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Marked `xdist_group("outside")`, every test of this folder shares it."""
    product = Product.launch(tmp_path_factory.mktemp("outside") / "var", **SETTINGS)
    yield product
    product.stop()


@pytest.fixture(scope="session")
def desk(running: Product) -> Iterator[Desk]:
    beside = Desk(running)
    names = [name for provider, name in OFFERS if provider == "sandbox-strange"]
    strange = {name: {"provider": "sandbox-strange", "upstream_name": name, **FIRST} for name in names}
    _list(
        beside,
        running,
        {f"strange/{name}": [endpoint] for name, endpoint in strange.items()}
        | {f"pair/{name}": [endpoint, SECOND] for name, endpoint in strange.items()},
    )
    yield beside
    beside.close()


def _list(desk: Desk, running: Product, models: dict[str, list[dict[str, Any]]]) -> None:
    """And wait until they are served."""
    desk.list_models(models)
    until, wanted = time.monotonic() + 60, models.keys()
    while wanted - {model["id"] for model in httpx.get(f"{running.api_base}/models").json()["data"]}:
        assert time.monotonic() < until, wanted
        time.sleep(0.1)


@pytest.fixture(scope="session")
def sandbox(running: Product) -> Iterator[Sandbox]:
    with Sandbox(running.sandbox_url) as beside:
        yield beside


@pytest.fixture
def caller(running: Product, desk: Desk) -> Iterator[Caller]:
    """An organization of this test's own with ten dollars, and its key."""
    organization = desk.open(usd="10")
    text, public_id = desk.key(organization)
    with Caller(running.api_base, text, key_id=public_id, organization=organization) as made:
        made.http.headers["X-Test"] = "outside"
        yield made


@pytest.fixture
def at_address(desk: Desk, running: Product) -> Callable[..., None]:
    """List `model` at a provider of its own address, with or without a healthy second."""

    def listed(model: str, base_url: str, *, prefix: str = "OUTSIDE", alone: bool = False) -> None:
        slug = model.replace("/", "-")
        first: dict[str, Any] = {"provider": slug, "upstream_name": "x", "base_url": base_url, **FIRST}
        first["env_prefix"] = prefix
        _list(desk, running, {model: [first] if alone else [first, SECOND]})

    return listed
