"""A running product whose OpenAI is aimock, and what the tests ask of it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.desk import Desk
from tests.product import Product
from tests.routing.aimock.server import Aimock
from tests.routing.gateway.caller import Caller

KEY = "sk-only-aimock-hears-this"
ROUTER = {
    "provider": "router",
    "env_prefix": "ROUTER",
    "ttft_ms": 300,
    "tokens_per_second": 50,
    "prices": {
        "input": "3",
        "output": "15",
        "cache_read": "0.3",
        "cache_write_5m": "3.75",
        "reasoning": "12",
    },
}
"""aimock as OpenRouter answers: there alone it states cached and reasoning tokens."""


@pytest.fixture(scope="session")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aimock]:
    with Aimock(tmp_path_factory.mktemp("aimock")) as listening:
        yield listening


@pytest.fixture(scope="session")
def running(aimock: Aimock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Marked `xdist_group("aimock")`, every test of this folder shares it."""
    product = Product.launch(
        tmp_path_factory.mktemp("openai") / "var",
        WEB_CONCURRENCY="1",
        OPENAI_BASE_URL=aimock.url(),
        OPENAI_API_KEY=KEY,
        ROUTER_API_KEY=KEY,
    )
    yield product
    product.stop()


@pytest.fixture(scope="session")
def desk(running: Product, aimock: Aimock) -> Iterator[Desk]:
    beside = Desk(running)
    router = {**ROUTER, "base_url": aimock.url("/api/v1")}
    beside.list_models({"router/relay": [{**router, "upstream_name": "relay-1"}]})
    yield beside
    beside.close()


@pytest.fixture(scope="session")
def unspoilt(running: Product) -> Iterator[str]:
    """OpenAI's models, each handed out once: after failures an endpoint goes behind others that can serve."""
    listed = httpx.get(f"{running.api_base}/models", trust_env=False).json()["data"]
    return iter([model["id"] for model in listed if model["id"].startswith("openai/")])


@pytest.fixture
def caller(running: Product, desk: Desk) -> Iterator[Caller]:
    """An organization of this test's own with ten dollars, and its key."""
    with _calling(running, desk) as made:
        yield made


@pytest.fixture(scope="session")
def visitor(running: Product, desk: Desk) -> Iterator[Caller]:
    """One for all tests that look at answers alone, and not at what they cost."""
    with _calling(running, desk) as made:
        yield made


@pytest.fixture(scope="session")
def client(visitor: Caller) -> Iterator[openai.OpenAI]:
    """OpenAI's own SDK; what it would repeat by itself is seen once."""
    with openai.OpenAI(base_url=visitor.api_base, api_key=visitor.text, max_retries=0) as made:
        yield made


def _calling(running: Product, desk: Desk) -> Caller:
    organization = desk.open(usd="10")
    text, public_id = desk.key(organization)
    return Caller(running.api_base, text, key_id=public_id, organization=organization)
