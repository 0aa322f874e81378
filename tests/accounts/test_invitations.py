"""Invitations: a link for one address, once, for seven days; and what a newcomer finds behind it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
import time_machine
from django.core import mail
from django.test import Client

from accounts import invitations, signup
from accounts.core import roles
from accounts.models import AuditEntry, Invitation, Membership, Organization, User
from aggregator.lib import clock
from aggregator.lib.errors import Refusal

pytestmark = pytest.mark.django_db
Browser = Callable[[User], Client]

PASSWORD = "correct horse battery staple"
NEWCOMER = "nora@example.com"


def invite(client: Client, email: str = NEWCOMER, role: str = "member") -> str:
    """The path of the link that the newest letter holds."""
    before = len(mail.outbox)
    assert client.post("/organization/members", {"email": email, "role": role}).status_code == 302
    assert len(mail.outbox) == before + 1
    return link(mail.outbox[-1])


def link(message: mail.EmailMessage) -> str:
    return re.search(r"(/invitations/\w+)$", message.body, re.MULTILINE)[1]


def row_of(email: str = NEWCOMER) -> Invitation:
    return Invitation.unscoped.get(email=email)


def test_a_newcomer_signs_up_from_the_link_and_is_in_that_organization_alone(
    alice: User, home: Organization, browser: Browser, client: Client
):
    path = invite(browser(alice), role="admin")
    assert mail.outbox[-1].subject == "Join alice on Fairlead"
    page = client.get(path).content.decode()
    assert "alice@example.com" in page and NEWCOMER in page
    [there] = re.findall(r'href="(/accounts/signup/\?[^"]+)"', page)
    there = there.replace("&amp;", "&")
    assert f'value="{NEWCOMER}"' in client.get(there).content.decode()

    client.post("/accounts/signup/", {"email": NEWCOMER, "password1": PASSWORD, "next": path})
    assert not Membership.unscoped.filter(user__email=NEWCOMER).exists(), "not before the code"
    code = re.search(r"^    ([A-Z0-9-]{6,9})$", mail.outbox[-1].body, re.MULTILINE)[1]
    page = client.post("/accounts/confirm-email/", {"code": code}, follow=True)

    assert page.status_code == 200
    [held] = Membership.unscoped.filter(user__email=NEWCOMER)
    assert (held.organization, held.role) == (home, roles.ADMIN)
    assert page.context["organization"] == home
    assert Organization.objects.count() == 1, "no organization that nobody asked for"
    assert AuditEntry.objects.of(home).filter(verb="member.joined", object=NEWCOMER).exists()
    assert client.get(path).status_code == 302, "the used link leads where it led"


def test_a_newcomer_whose_invitation_was_taken_back_meanwhile_has_an_organization_of_their_own(
    alice: User, home: Organization, browser: Browser, client: Client
):
    client.get(invite(browser(alice)))
    client.post("/accounts/signup/", {"email": NEWCOMER, "password1": PASSWORD})
    Invitation.unscoped.update(revoked_at=clock.now())
    code = re.search(r"^    ([A-Z0-9-]{6,9})$", mail.outbox[-1].body, re.MULTILINE)[1]

    client.post("/accounts/confirm-email/", {"code": code})

    [held] = Membership.unscoped.filter(user__email=NEWCOMER)
    assert held.organization != home and held.role == roles.OWNER


def test_who_signs_up_with_another_address_after_opening_a_link_gets_their_own_organization(
    alice: User, home: Organization, browser: Browser, client: Client
):
    client.get(invite(browser(alice)))

    client.post("/accounts/signup/", {"email": "else@example.com", "password1": PASSWORD})

    held = Membership.unscoped.get(user__email="else@example.com")
    assert held.organization != home


def test_a_person_with_an_account_joins_with_one_click_and_keeps_what_they_had(
    alice: User, mallory: User, home: Organization, away: Organization, browser: Browser
):
    path = invite(browser(alice), mallory.email.upper())
    client = browser(mallory)
    assert "Join alice" in client.get(path).content.decode()
    assert Membership.unscoped.filter(user=mallory).count() == 1, "looking is not joining"

    page = client.post(path, follow=True)

    assert page.context["organization"] == home
    assert set(Membership.unscoped.filter(user=mallory).values_list("organization", "role")) == {
        (away.pk, "owner"),
        (home.pk, "member"),
    }
    client.post(path)
    assert Membership.unscoped.filter(user=mallory).count() == 2, "once"


def test_a_link_is_of_no_use_to_another_address(
    alice: User, mallory: User, home: Organization, browser: Browser
):
    path = invite(browser(alice))
    client = browser(mallory)

    page = client.get(path).content.decode()
    client.post(path)

    assert "You are signed in as" in page and "Join alice</button>" not in page
    assert not Membership.objects.of(home).filter(user=mallory).exists()
    with pytest.raises(Refusal, match="another address"):
        invitations.accept(row_of(), mallory)


def test_an_address_that_is_not_confirmed_joins_nothing(alice: User, home: Organization, browser: Browser):
    path = invite(browser(alice))
    stranger = User.objects.create_user(NEWCOMER, PASSWORD)

    browser(stranger).post(path)

    assert not Membership.objects.of(home).filter(user=stranger).exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"revoked_at": clock.now()}, "was taken back"),
        ({"expires_at": clock.now()}, "has expired"),
        ({"accepted_at": clock.now()}, "was used"),
    ],
)
def test_a_link_that_is_good_no_longer_says_why(
    alice: User, mallory: User, browser: Browser, change: dict, words: str
):
    path = invite(browser(alice), mallory.email)
    Invitation.unscoped.update(**change)

    for visitor in (Client(), browser(mallory)):
        page = visitor.get(path)
        assert page.status_code == 410
        assert words in page.content.decode()
        visitor.post(path)
    assert Membership.unscoped.filter(user=mallory).count() == 1


def test_an_unknown_link_is_not_found(client: Client):
    page = client.get("/invitations/" + "a" * 40)

    assert page.status_code == 404
    assert "This link is not good" in page.content.decode()


def test_only_an_hmac_of_the_token_is_kept(alice: User, browser: Browser):
    token = invite(browser(alice)).rpartition("/")[2]

    row = Invitation.unscoped.values().get()
    assert len(token) == 40
    assert token not in str(row)
    assert len(bytes(row["digest"])) == 32


def test_sending_again_makes_a_new_link_and_ends_the_older_one(alice: User, browser: Browser, client: Client):
    inviter = browser(alice)
    older, row = invite(inviter), row_of()

    page = inviter.post(f"/organization/invitations/{row.pk}/again", follow=True)
    assert "Wait a minute" in page.content.decode()
    assert len(mail.outbox) == 1
    with time_machine.travel(clock.now() + timedelta(days=8)):
        assert client.get(older).status_code == 410
        inviter = browser(alice)
        inviter.post(f"/organization/invitations/{row.pk}/again")
        newer = link(mail.outbox[-1])

        assert client.get(older).status_code == 404
        assert client.get(newer).status_code == 200


def test_inviting_an_address_again_renews_its_invitation(alice: User, browser: Browser):
    invite(browser(alice))
    invite(browser(alice), role="admin")

    assert (row_of().role, row_of().times_sent) == ("admin", 2)


def test_a_taken_back_invitation_is_off_the_list_and_the_address_can_be_asked_anew(
    alice: User, browser: Browser
):
    client = browser(alice)
    invite(client)

    client.post(f"/organization/invitations/{row_of().pk}/revoke")

    assert client.get("/organization/members").context["waiting"] == []
    invite(client)
    assert Invitation.unscoped.count() == 2


def test_whoever_may_not_invite_does_not(alice: User, bob: User, home: Organization, browser: Browser):
    client = browser(bob)
    client.post("/organization/members", {"email": NEWCOMER, "role": "member"})
    assert not Invitation.unscoped.exists()
    Membership.objects.of(home).filter(user=bob).update(role=roles.ADMIN)

    assert client.post("/organization/members", {"email": NEWCOMER, "role": "owner"}).status_code == 422
    invite(browser(alice), role="owner")
    page = client.post(f"/organization/invitations/{row_of().pk}/revoke", follow=True)

    assert "Only an owner" in page.content.decode()
    assert row_of().revoked_at is None


def test_inviting_does_not_tell_which_addresses_have_accounts(alice: User, mallory: User, browser: Browser):
    client = browser(alice)
    known = client.post("/organization/members", {"email": mallory.email, "role": "member"}, follow=True)
    unknown = client.post("/organization/members", {"email": "mallorx@example.com", "role": "member"})

    assert known.redirect_chain == [(unknown["Location"], 302)]
    assert "is invited" in known.content.decode()
    assert [message.subject for message in mail.outbox] == ["Join alice on Fairlead"] * 2


def test_a_member_is_not_invited_again(alice: User, bob: User, browser: Browser):
    page = browser(alice).post("/organization/members", {"email": "Bob@example.com", "role": "member"})

    assert page.status_code == 422
    assert "is a member already" in page.content.decode()
    assert mail.outbox == []


def test_letters_of_an_hour_are_counted(alice: User, browser: Browser, settings):
    settings.INVITATIONS_PER_HOUR = 2
    client = browser(alice)
    invite(client, "one@example.com")
    invite(client, "two@example.com")

    page = client.post("/organization/members", {"email": "three@example.com", "role": "member"})

    assert page.status_code == 422
    assert "At most 2 invitations" in page.content.decode()
    assert len(mail.outbox) == 2
    with time_machine.travel(clock.now() + timedelta(minutes=61)):
        invite(browser(alice), "three@example.com")


def test_a_letter_that_cannot_be_sent_is_said(alice: User, browser: Browser, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1

    page = browser(alice).post("/organization/members", {"email": NEWCOMER, "role": "member"}, follow=True)

    assert "could not be sent" in page.content.decode()
    assert row_of().accepted_at is None


def test_starting_credit_is_given_once_a_person(alice: User, home: Organization, settings):
    from billing import wallets
    from billing.models import Wallet

    settings.STARTING_CREDIT_USD = 1
    further = signup.open_organization(alice, name="Further")
    for organization in (home, further):
        wallets.open_wallet(organization.pk)

    assert Wallet.objects.of(home).get().balance_nanos == 10**9
    assert Wallet.objects.of(further).get().balance_nanos == 0


def test_an_admin_does_not_make_less_of_an_owners_invitation(
    alice: User, bob: User, home: Organization, browser: Browser
):
    Membership.objects.of(home).filter(user=bob).update(role=roles.ADMIN)
    invite(browser(alice), role="owner")
    digest = bytes(row_of().digest)

    page = browser(bob).post("/organization/members", {"email": NEWCOMER, "role": "member"})

    assert page.status_code == 422
    assert (row_of().role, bytes(row_of().digest)) == (roles.OWNER, digest), "the owner's link still works"


def test_one_address_gets_few_letters_whatever_number_of_organizations_asks(
    alice: User, home: Organization, mallory: User
):
    first = Membership.objects.of(home).get()
    for _ in range(3):
        invitations.invite(first, NEWCOMER, roles.MEMBER)
    others = signup.open_organization(mallory, name="Another")
    second = Membership.objects.of(others).get()
    for _ in range(2):
        invitations.invite(second, NEWCOMER, roles.MEMBER)

    for held in (first, second):
        with pytest.raises(Refusal, match="several times"):
            invitations.invite(held, NEWCOMER, roles.MEMBER)

    assert len(mail.outbox) == 5


def test_who_opens_many_organizations_sends_no_more_letters(alice: User, home: Organization, settings):
    settings.INVITATIONS_PER_HOUR = 2
    held = Membership.objects.of(home).get()
    further = Membership.objects.of(signup.open_organization(alice, name="Another")).get()
    invitations.invite(held, "one@example.com", roles.MEMBER)
    invitations.invite(further, "two@example.com", roles.MEMBER)

    with pytest.raises(Refusal, match="At most 2"):
        invitations.invite(further, "three@example.com", roles.MEMBER)
