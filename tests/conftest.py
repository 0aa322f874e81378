"""Real servers for every test, and the whole product for those that ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import django
import pytest

from tests import servers

django.setup()

from aggregator.lib import kv  # noqa: E402
from tests.product import Product  # noqa: E402


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests import scheduling

    return scheduling.ByFileAndGroup(config, log)


def pytest_unconfigure() -> None:
    servers.stop()


@pytest.fixture(autouse=True)
def _empty_valkey() -> Iterator[None]:
    """Each test finds the gate, the caches and the broker empty."""
    yield
    if servers.own_valkey():
        kv.gate().flushall()


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """One running product for all tests that share it: mark them `xdist_group("product")`."""
    running = Product.launch(tmp_path_factory.mktemp("product") / "var")
    yield running
    running.stop()
