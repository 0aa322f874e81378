"""Who is in an organization, as what: inviting, changing roles, leaving, and that somebody owns it always."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client

from accounts import keys, members, signup
from accounts.core import roles
from accounts.models import AuditEntry, Key, Membership, Organization, User
from aggregator.lib.errors import Refusal
from tests.accounts import passkeys

pytestmark = pytest.mark.django_db
Browser = Callable[[User], Client]


def held(user: User, organization: Organization) -> Membership:
    return Membership.objects.of(organization).select_related("organization", "user").get(user=user)


def role_of(user: User, organization: Organization) -> str | None:
    return Membership.objects.of(organization).filter(user=user).values_list("role", flat=True).first()


def newest(organization: Organization) -> AuditEntry:
    return AuditEntry.objects.of(organization).latest("pk")


@pytest.fixture
def carol(home: Organization, db: None) -> User:
    """An admin of Alice's organization."""
    user = User.objects.create_user("carol@example.com")
    members.add(home, user, roles.ADMIN)
    return user


def test_an_owner_makes_an_admin_and_it_is_in_the_log(
    alice: User, bob: User, home: Organization, browser: Browser
):
    row = held(bob, home)

    page = browser(alice).post(f"/organization/members/{row.pk}", {"role": "admin"}, follow=True)

    assert "bob@example.com is admin now." in page.content.decode()
    assert role_of(bob, home) == roles.ADMIN
    entry = newest(home)
    assert (entry.verb, entry.object, entry.actor) == (
        "member.role_changed",
        "bob@example.com",
        "user:alice@example.com",
    )
    assert entry.detail == {"role": ["member", "admin"]}


def test_an_admin_neither_makes_nor_touches_an_owner(
    alice: User, bob: User, carol: User, home: Organization, browser: Browser
):
    client, owner = browser(carol), held(alice, home)

    assert client.post(f"/organization/members/{owner.pk}", {"role": "member"}).status_code == 302
    client.post(f"/organization/members/{owner.pk}/remove", {"keys": "keep"})
    assert client.post(f"/organization/members/{held(bob, home).pk}", {"role": "owner"}).status_code == 422
    client.post(f"/organization/members/{held(bob, home).pk}/transfer")

    assert role_of(alice, home) == roles.OWNER
    assert role_of(bob, home) == roles.MEMBER
    with pytest.raises(Refusal, match="Only an owner"):
        members.change_role(held(carol, home), held(bob, home).pk, roles.OWNER)
    with pytest.raises(Refusal, match="No such role"):
        members.change_role(held(alice, home), held(bob, home).pk, "emperor")


@pytest.mark.parametrize("path", ["", "/remove", "/transfer"])
def test_a_member_changes_nobody(alice: User, bob: User, home: Organization, browser: Browser, path: str):
    form = {"role": "owner", "keys": "keep"}

    assert browser(bob).post(f"/organization/members/{held(bob, home).pk}{path}", form).status_code == 403

    assert (role_of(alice, home), role_of(bob, home)) == (roles.OWNER, roles.MEMBER)


def test_the_last_owner_neither_leaves_nor_steps_down(
    alice: User, bob: User, home: Organization, browser: Browser
):
    client, row = browser(alice), held(alice, home)

    for path, form in (("/organization/leave", {}), (f"/organization/members/{row.pk}", {"role": "member"})):
        page = client.post(path, form, follow=True)
        assert "needs an owner" in page.content.decode()
    assert role_of(alice, home) == roles.OWNER

    members.change_role(row, held(bob, home).pk, roles.OWNER)
    User.objects.filter(pk=bob.pk).update(is_active=False)
    with pytest.raises(Refusal, match="needs an owner"):
        members.leave(row)  # an owner who cannot sign in is none

    User.objects.filter(pk=bob.pk).update(is_active=True)
    members.leave(row)
    assert role_of(alice, home) is None


@pytest.mark.parametrize("choice", ["disable", "keep"])
def test_a_removed_person_is_out_at_once_and_their_keys_are_as_chosen(
    alice: User, bob: User, home: Organization, browser: Browser, choice: str
):
    theirs, text = keys.create(home, name="bob's", by=bob)
    of_bob, row = browser(bob), held(bob, home)
    assert of_bob.get("/keys").status_code == 200
    path = f"/organization/members/{row.pk}/remove"
    assert "1 key" in browser(alice).get(path).content.decode()

    assert browser(alice).post(path).status_code == 422, "nobody chooses by leaving it as it is"
    assert role_of(bob, home) == roles.MEMBER
    browser(alice).post(path, {"keys": choice})

    answer = of_bob.get("/keys")
    assert answer.status_code == 403
    assert "You belong to no organization" in answer.content.decode()
    theirs.refresh_from_db()
    assert theirs.state == ("disabled" if choice == "disable" else "active")
    if choice == "disable":
        with pytest.raises(Refusal, match="disabled"):
            keys.principal(text)
    else:
        assert keys.principal(text).key == theirs.public_id
    assert newest(home).verb == "member.removed"
    assert newest(home).detail["disabled"] == ([theirs.public_id] if choice == "disable" else [])


def test_handing_over_is_both_or_neither(alice: User, bob: User, home: Organization, browser: Browser):
    browser(alice).post(f"/organization/members/{held(bob, home).pk}/transfer")

    assert (role_of(alice, home), role_of(bob, home)) == (roles.ADMIN, roles.OWNER)
    with pytest.raises(Refusal, match="does not allow"):
        members.transfer(held(alice, home), held(bob, home).pk)


def test_a_role_that_was_taken_meanwhile_changes_nothing(
    alice: User, bob: User, carol: User, home: Organization
):
    stale = held(carol, home)
    members.change_role(held(alice, home), stale.pk, roles.MEMBER)

    with pytest.raises(Refusal, match="does not allow"):
        members.remove(stale, held(bob, home).pk, disable_keys=True)
    assert role_of(bob, home) == roles.MEMBER


def test_the_list_tells_each_what_they_may_know(alice: User, bob: User, home: Organization, browser: Browser):
    passkeys.add(bob, "laptop")
    browser(bob).get("/keys")
    of_alice = browser(alice).get("/organization/members")
    of_bob = browser(bob).get("/organization/members")

    people = {person["row"].user.email: person for person in of_alice.context["people"]}
    assert people["bob@example.com"]["guarded"] and not people["alice@example.com"]["guarded"]
    assert people["bob@example.com"]["row"].seen_at is not None
    assert "Invite by e-mail" in of_alice.content.decode()
    assert "What each role may do" in of_bob.content.decode()
    for hidden in ("Second factor", "Invite by e-mail", "Actions for"):
        assert hidden not in of_bob.content.decode()


def test_a_person_of_two_organizations_switches_and_acts_for_the_chosen_one(
    alice: User, mallory: User, home: Organization, away: Organization, browser: Browser
):
    members.add(away, alice, roles.MEMBER)
    keys.create(home, name="of home", by=alice)
    client, elsewhere = browser(alice), browser(alice)
    assert "of home" in client.get("/keys").content.decode(), "the oldest, as long as none is chosen"

    client.post("/organization/switch", {"organization": away.public_id})

    assert "of home" not in client.get("/keys").content.decode()
    assert client.get("/organization").context["organization"] == away
    assert elsewhere.get("/organization").context["organization"] == home, "each session has its own"

    Membership.objects.of(away).filter(user=alice).delete()
    assert client.get("/organization").context["organization"] == home


def test_nobody_switches_to_an_organization_that_is_not_theirs(
    alice: User, home: Organization, away: Organization, browser: Browser
):
    client = browser(alice)

    client.post("/organization/switch", {"organization": away.public_id})

    assert client.get("/organization").context["organization"] == home
    session = client.session
    session["organization"] = away.pk
    session.save()
    assert client.get("/organization").context["organization"] == home


def test_another_organization_is_opened_owned_and_chosen(alice: User, home: Organization, browser: Browser):
    client = browser(alice)

    client.post("/organization/new", {"name": "Analytical Engines"})

    made = Organization.objects.get(slug="analytical-engines")
    assert client.get("/organization").context["organization"] == made
    assert role_of(alice, made) == roles.OWNER
    assert (home.is_further, made.is_further) == (False, True)


def test_a_person_opens_only_so_many(alice: User, home: Organization, browser: Browser, monkeypatch):
    monkeypatch.setattr(signup, "MOST_OPENED", 1)

    page = browser(alice).post("/organization/new", {"name": "One too many"})

    assert page.status_code == 422
    assert "Write to us for more" in page.content.decode()


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_leave_at_the_same_time_leave_one_owner(alice: User, bob: User, home: Organization):
    """Each on a connection of its own: whoever is second sees what the first has done."""
    members.change_role(held(alice, home), held(bob, home).pk, roles.OWNER)
    start, said = threading.Barrier(2), []

    def leave(user: User) -> None:
        row = held(user, home)
        start.wait()
        try:
            members.leave(row)
            said.append("left")
        except Refusal as refusal:
            said.append(refusal.error_type)
        finally:
            connection.close()

    threads = [threading.Thread(target=leave, args=(user,)) for user in (alice, bob)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(said) == ["last_owner", "left"]
    assert Membership.objects.of(home).filter(role=roles.OWNER).count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_change_of_people_does_not_stop_what_refers_to_the_organization(alice: User, home: Organization):
    """Calls are written while members change: the lock is not the one that foreign keys wait for."""
    made: list[Key] = []

    def make() -> None:
        made.append(keys.create(home, name="meanwhile", by=None)[0])
        connection.close()

    with members.acting(held(alice, home)):
        thread = threading.Thread(target=make)
        thread.start()
        thread.join(timeout=20)
        assert made, "it waited for the lock"
