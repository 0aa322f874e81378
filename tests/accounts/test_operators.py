"""What operators see of keys: neither a text nor its hash, and nothing to change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.test import Client

from accounts import keys, playground
from accounts.models import AuditEntry, Key, KeySecret, Membership, Organization, User
from aggregator.lib.errors import Refusal

pytestmark = pytest.mark.django_db
PASSWORD = "a long password 42"


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
    member = Membership.objects.create(organization=home, user=bob_of(home), role="member")

    answer = _members(staff, home, {"name": "Renamed"}, {member.pk: {"role": "admin"}})

    assert answer.status_code == 302, answer.content.decode()[:3000]
    told = {entry.verb: entry.detail for entry in AuditEntry.objects.of(home)}
    assert told["organization.changed"] == {"name": "Renamed"}
    assert told["member.changed"] == {"email": member.user.email, "role": "admin"}


def bob_of(home: Organization) -> User:
    return User.objects.create_user(f"bob@{home.slug}.example.com", PASSWORD)


def _members(staff: Client, home: Organization, said: dict[str, str], changes: dict[int, dict[str, str]]):
    """Save the organization's page with these changes of members, by membership."""
    page = f"/admin/accounts/organization/{home.pk}/change/"
    prefix = staff.get(page).context["inline_admin_formsets"][0].formset.prefix
    rows = list(Membership.objects.of(home).order_by("pk"))
    form = {"slug": home.slug, "name": home.name, **said}
    form |= {f"{prefix}-TOTAL_FORMS": str(len(rows)), f"{prefix}-INITIAL_FORMS": str(len(rows))}
    for at, row in enumerate(rows):
        one = {"id": row.pk, "organization": home.pk, "user": row.user_id, "role": row.role}
        one |= changes.get(row.pk, {})
        form |= {f"{prefix}-{at}-{name}": str(value) for name, value in one.items()}
    return staff.post(page, form)


@pytest.mark.parametrize("change", [{"role": "admin"}, {"DELETE": "on"}])
def test_operators_leave_no_organization_without_an_owner(
    staff: Client, home: Organization, alice: User, change: dict[str, str]
):
    held = Membership.objects.of(home).get()
    gone = User.objects.create_user("gone@example.com", PASSWORD, is_active=False)
    Membership.objects.create(organization=home, user=gone, role="owner")  # may not sign in

    answer = _members(staff, home, {}, {held.pk: change})

    assert answer.status_code == 200
    assert "needs an owner" in answer.content.decode()
    assert Membership.objects.of(home).get(user=alice).role == "owner"


def test_who_an_operator_removes_has_no_playground_any_more(staff: Client, home: Organization):
    held = Membership.objects.create(organization=home, user=bob_of(home), role="member")
    text = playground.open_session(held).text

    assert _members(staff, home, {}, {held.pk: {"DELETE": "on"}}).status_code == 302

    with pytest.raises(Refusal, match="deleted"):
        keys.principal(text)


def test_the_operators_pages_take_no_password_without_the_second_factor(client: Client):
    root = User.objects.create_superuser("root@example.com", PASSWORD)
    TOTP.activate(root, "JBSWY3DPEHPK3PXP")

    answer = client.post("/admin/login/?next=/admin/", {"username": root.email, "password": PASSWORD})

    assert "_auth_user_id" not in client.session
    assert answer.status_code == 302 and answer.headers["Location"].startswith("/accounts/login/?next=")
    assert client.get("/admin/").status_code == 302


def test_no_page_of_operators_shows_what_signs_somebody_in(staff: Client, alice: User):
    TOTP.activate(alice, "JBSWY3DPEHPK3PXP")
    factor = Authenticator.objects.get(user=alice)

    assert not {"usersession", "emailaddress"} & {model._meta.model_name for model in admin.site._registry}
    page = staff.get(f"/admin/mfa/authenticator/{factor.pk}/change/")
    assert page.status_code == 200
    assert factor.data["secret"] not in page.content.decode()
    assert staff.get("/admin/mfa/authenticator/add/").status_code == 403


def test_a_factor_that_an_operator_takes_away_stands_in_the_audit_log(
    staff: Client, home: Organization, alice: User
):
    TOTP.activate(alice, "JBSWY3DPEHPK3PXP")
    factor = Authenticator.objects.get(user=alice)

    staff.post(f"/admin/mfa/authenticator/{factor.pk}/delete/", {"post": "yes"})

    assert not Authenticator.objects.filter(user=alice).exists()
    entry = AuditEntry.objects.of(home).get(verb="user.changed")
    assert (entry.actor, entry.detail) == (
        "user:root@example.com",
        {"email": alice.email, "removed": "totp"},
    )
