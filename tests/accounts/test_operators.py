"""What operators see of keys: neither a text nor its hash, and nothing to change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.test import Client

from accounts.models import AuditEntry, Key, KeySecret, Membership, Organization, User

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


def test_who_is_deactivated_is_signed_out_everywhere_and_their_organization_reads_it(
    staff: Client, home: Organization, alice: User, browser: Callable[[User], Client]
):
    at_home = browser(alice)
    assert at_home.get("/keys").status_code == 200
    session = at_home.cookies["session"].value
    page = f"/admin/accounts/user/{alice.pk}/change/"

    answer = staff.post(page, {"is_staff": "", "is_superuser": ""})

    assert answer.status_code == 302
    alice.refresh_from_db()
    assert not alice.is_active and not Session.objects.filter(session_key=session).exists()
    assert at_home.get("/keys").status_code == 302
    entry = AuditEntry.objects.of(home).get(verb="user.changed")
    assert (entry.actor, entry.detail["is_active"]) == ("user:root@example.com", False)
    assert LogEntry.objects.filter(object_id=str(alice.pk)).exists()
    staff.post(page, {"is_active": "on"})
    assert at_home.get("/keys").status_code == 302  # what was ended does not come back


def test_an_operator_who_is_no_superuser_makes_nobody_more_than_they_are(
    alice: User, browser: Callable[[User], Client]
):
    helper = User.objects.create_user("helper@example.com", "a long password 42", is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "change_user"]))
    root = User.objects.create_superuser("root@example.com", "a long password 42")
    client = browser(helper)

    for person in (helper, alice):
        client.post(
            f"/admin/accounts/user/{person.pk}/change/",
            {"is_active": "on", "is_staff": "on", "is_superuser": "on"},
        )
    refused = client.post(f"/admin/accounts/user/{root.pk}/change/", {})

    assert refused.status_code == 403
    assert not User.objects.filter(is_superuser=True).exclude(pk=root.pk).exists()
    assert not User.objects.get(pk=alice.pk).is_staff


def test_what_an_operator_changes_of_an_organization_stands_in_its_audit_log(
    staff: Client, home: Organization, alice: User
):
    held = Membership.objects.of(home).get()
    form = {
        "slug": home.slug,
        "name": "Renamed",
        "memberships-TOTAL_FORMS": "1",
        "memberships-INITIAL_FORMS": "1",
        "memberships-0-id": held.pk,
        "memberships-0-organization": home.pk,
        "memberships-0-user": alice.pk,
        "memberships-0-role": "admin",
    }
    shown = staff.get(f"/admin/accounts/organization/{home.pk}/change/")
    prefix = shown.context["inline_admin_formsets"][0].formset.prefix
    form = {name.replace("memberships", prefix): value for name, value in form.items()}

    answer = staff.post(f"/admin/accounts/organization/{home.pk}/change/", form)

    assert answer.status_code == 302, answer.content.decode()[:3000]
    told = {entry.verb: entry.detail for entry in AuditEntry.objects.of(home)}
    assert told["organization.changed"] == {"name": "Renamed"}
    assert told["member.changed"] == {"email": alice.email, "role": "admin"}
