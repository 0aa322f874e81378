"""Real servers for every test, and the whole product for those that ask for it."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import django
import pytest
import pytest_django
from httpx._config import DEFAULT_TIMEOUT_CONFIG as _PATIENCE
from httpx._transports import default
from hypothesis import HealthCheck
from hypothesis import settings as properties

from tests import servers

# Each client of httpx would read all certificate authorities: 20 ms of CPU, and no test speaks TLS with one.
default.create_ssl_context = functools.cache(default.create_ssl_context)
# A busy machine may take longer over an answer than the five seconds that httpx waits unless told.
_PATIENCE.connect = _PATIENCE.read = _PATIENCE.write = _PATIENCE.pool = 60.0
# What passed passes again: each day the same examples are drawn; new ones where one asks for them.
_UNHURRIED: Any = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
properties.register_profile("same", derandomize=True, database=None, **_UNHURRIED)
properties.register_profile("search", **_UNHURRIED)
properties.load_profile("same")
django.setup()

from django.conf import settings  # noqa: E402
from django.test import TransactionTestCase  # noqa: E402

from aggregator.lib import kv  # noqa: E402
from aggregator.packed import StaticFiles  # noqa: E402
from routing import callers  # noqa: E402
from tests import copying, emptying  # noqa: E402
from tests.desk import Desk  # noqa: E402
from tests.product import Product  # noqa: E402

# A password costs a quarter of a second of CPU, on purpose. Products that run beside the tests pay it.
settings.PASSWORD_HASHERS = ["tests.accounts.hashing.QuickScrypt"]
# A customer hears 503 when PostgreSQL takes longer over a key; a test on a busy machine rather waits.
callers._ASK_SECONDS = 30.0
_static: dict[str, Any] = {}
_own_place, _look_at_all = settings.VAR_DIR, StaticFiles.add_files_from_finders


def _looked_at(middleware: StaticFiles) -> None:
    """Each test's client would look at every static file there is, for a twentieth of a second of CPU."""
    if not _static or _own_place != settings.VAR_DIR:
        _look_at_all(middleware)
    if _own_place == settings.VAR_DIR:
        _static.update(middleware.files)
        middleware.files.update(_static)


StaticFiles.add_files_from_finders = _looked_at

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_OF_A_GROUP = ("product", "running", "_house", "_stand", "aimock", "browser")
"""Fixtures of the session which one group of tests shares."""
_DAY_SECONDS, _LAST_SECONDS = 86_400, 10
_begun: dict[pytest.FixtureDef[Any], None] = {}
"""Those that this group has asked for; its last test may not be one that did."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests import scheduling

    return scheduling.ByFileAndGroup(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from tests import scheduling

    scheduling.order(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """No test begins in a day's last seconds: what it makes today it may look for tomorrow, or next month."""
    left = _DAY_SECONDS - time.time() % _DAY_SECONDS
    if left < _LAST_SECONDS:
        time.sleep(left)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Function, nextitem: pytest.Item | None) -> Iterator[None]:
    """A product ends with its group, not with the session: even an idle one takes a tenth of a core."""
    from tests import scheduling

    yield
    for name in _OF_A_GROUP:
        _begun.update(dict.fromkeys(item._fixtureinfo.name2fixturedefs.get(name, ())))
    if scheduling.is_last(item, nextitem):
        for fixture in _begun:
            fixture.finish(item._request)  # and before it, whatever was made of it
        _begun.clear()


def pytest_unconfigure() -> None:
    servers.stop()


@pytest.fixture(scope="session")
def _copy() -> copying.Copy:
    return copying.Copy()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, _copy: copying.Copy
) -> None:
    """pytest-django's own, and what the database is a copy of."""
    _copy.begin()


@pytest.fixture(scope="session")
def django_db_setup(
    django_db_setup: None, django_db_blocker: pytest_django.DjangoDbBlocker, _copy: copying.Copy
) -> Iterator[None]:
    """pytest-django's own, and how the database is emptied after a test that commits."""
    with django_db_blocker.unblock():
        if _copy.is_first:
            emptying.remember()
        _copy.end()
    TransactionTestCase._fixture_teardown = emptying.restore
    yield
    with django_db_blocker.unblock():
        emptying.leave()


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


@pytest.fixture(scope="session")
def desk(product: Product) -> Iterator[Desk]:
    """An operator beside it."""
    beside = Desk(product)
    yield beside
    beside.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of a group; contexts keep them apart."""
    from tests import browsing

    with browsing.chromium() as started:
        yield started
