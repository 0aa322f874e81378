"""A running product with two gateway workers and short deadlines, and what the tests ask of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.desk import Desk
from tests.product import Product
from tests.routing.gateway.caller import Caller, Sandbox

SETTINGS = {
    "WEB_CONCURRENCY": "2",
    "FIRST_EVENT_SECONDS": "3",
    "IDLE_SECONDS": "2",
    "TOTAL_SECONDS": "5",
    "KEEP_ALIVE_SECONDS": "1",
    "STALLED_READER_SECONDS": "2",
    "HOLD_LEASE_SECONDS": "3",
    "GATE_TIMEOUT_MS": "1000",
    "GATE_GRACE_SECONDS": "10",
    "IDEMPOTENCY_MOST_BYTES": "8192",
    "LOG_MOST_BYTES": "4096",
    "PREVIEWS_PER_MINUTE": "30",
}


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Marked `xdist_group("gateway")`, every test of this folder shares it."""
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "crashes").mkdir()
    product = Product.launch(folder / "var", CRASH_DIR=str(folder / "crashes"), **SETTINGS)
    yield product
    product.stop()


@pytest.fixture(scope="session")
def desk(running: Product) -> Iterator[Desk]:
    beside = Desk(running)
    yield beside
    beside.close()


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
        yield made
