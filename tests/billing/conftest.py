"""Fixtures of tests in which money meets Stripe; `tests.billing.paying` has the plain makers."""

from __future__ import annotations

import pytest


@pytest.fixture
def stand(settings):
    """An empty account at the simulated Stripe, to which the door leads."""
    from tests.billing import stripe_stand

    stand = stripe_stand.running()
    stand.reset()
    settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE = stand.key, stand.url
    settings.STRIPE_TAX = False
    return stand


@pytest.fixture
def once(stand, monkeypatch):
    """The door asks Stripe once and does not try again by itself."""
    import stripe

    from billing.stripe_client import door

    http = stripe.HTTPXClient(timeout=door.SECONDS, allow_sync_methods=True)
    client = stand.client(max_network_retries=0, http_client=http)
    monkeypatch.setattr(door, "_client", lambda key, base: client)
    yield
    http.close()


@pytest.fixture(scope="module")
def _client():
    """One for all tests of a file: making one reads every static file there is."""
    from django.test import Client

    return Client()


@pytest.fixture
def shop(db):
    """An organization with the starting credit, and no more."""
    from django.core.cache import cache

    from tests.billing import books

    cache.clear()
    return books.make_organization(usd="0")


@pytest.fixture
def alice(_client, shop):
    """The browser of its owner."""
    from tests.billing import looking

    return looking.signed_in(_client, shop)


@pytest.fixture
def asks(_client, shop):
    """GET of the API with a management key."""
    from accounts import keys
    from accounts.core import roles

    _, text = keys.create(shop, name="books", by="test", scope=roles.MANAGEMENT)

    def get(path, **query):
        return _client.get(f"/api/v1{path}", query, headers={"Authorization": f"Bearer {text}"})

    return get
