"""Alice owns an organization, Bob is a member of it, and Mallory must see nothing of either."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core.cache import cache
from django.test import Client

from accounts import keys, signup
from accounts.core import roles
from accounts.models import Key, Membership, Organization, User

PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def _no_rate_limit_is_left_over() -> None:
    cache.clear()


@pytest.fixture
def alice(db: None) -> User:
    return signup.register("alice@example.com", PASSWORD)[0]


@pytest.fixture
def home(alice: User) -> Organization:
    return Membership.unscoped.get(user=alice).organization


@pytest.fixture
def bob(home: Organization) -> User:
    user, own = signup.register("bob@example.com", PASSWORD)
    Membership.objects.of(own).delete()
    Membership.objects.create(organization=home, user=user, role=roles.MEMBER)
    return user


@pytest.fixture
def mallory(db: None) -> User:
    return signup.register("mallory@example.com", PASSWORD)[0]


@pytest.fixture
def away(mallory: User) -> Organization:
    return Membership.unscoped.get(user=mallory).organization


@pytest.fixture
def key_and_text(home: Organization, alice: User) -> tuple[Key, str]:
    return keys.create(home, name="production", by=alice)


@pytest.fixture
def key(key_and_text: tuple[Key, str]) -> Key:
    return key_and_text[0]


@pytest.fixture
def text(key_and_text: tuple[Key, str]) -> str:
    return key_and_text[1]


@pytest.fixture
def management(home: Organization, alice: User) -> str:
    return keys.create(home, name="provisioning", by=alice, scope=roles.MANAGEMENT)[1]


@pytest.fixture
def browser() -> Callable[[User], Client]:
    def of(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return of
