"""What operators see of keys: neither a text nor its hash, and nothing to change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from accounts.models import AuditEntry, Key, KeySecret, Organization, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(browser: Callable[[User], Client], db: None) -> Client:
    return browser(User.objects.create_superuser("root@example.com", "a long password 42"))


def test_keys_are_read_only_and_show_no_hash(staff: Client, key: Key, text: str):
    digest = bytes(KeySecret.objects.get(key=key).digest)
    page = f"/admin/accounts/key/{key.pk}/change/"

    for path in ("/admin/accounts/key/", page):
        answer = staff.get(path)
        assert answer.status_code == 200
        html = answer.content.decode()
        assert key.public_id in html
        assert text not in html
        assert digest.hex() not in html
        assert repr(digest) not in html
    assert staff.post(page, {"name": "changed"}).status_code == 403
    assert staff.post(f"/admin/accounts/key/{key.pk}/delete/", {"post": "yes"}).status_code == 403
    assert staff.get("/admin/accounts/key/add/").status_code == 403


def test_the_other_lists_open(staff: Client, home: Organization, alice: User, key: Key):
    entry = AuditEntry.objects.of(home).first()
    for path in (
        "user/",
        f"user/{alice.pk}/change/",
        "organization/",
        f"organization/{home.pk}/change/",
        "auditentry/",
        f"auditentry/{entry.pk}/change/",
    ):
        assert staff.get(f"/admin/accounts/{path}").status_code == 200, path


def test_a_customer_is_not_an_operator(alice: User, browser: Callable[[User], Client]):
    assert browser(alice).get("/admin/accounts/key/").status_code == 302
