"""From an e-mail address to an organization with its owner; in, out, and a new password."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
import time_machine
from django.core import mail
from django.http import HttpResponse
from django.test import Client

from accounts import keys
from accounts.core import roles
from accounts.models import AuditEntry, Membership, Organization, User
from aggregator.lib import clock
from billing.models import Wallet
from tests.accounts.conftest import PASSWORD

pytestmark = pytest.mark.django_db


def code_in(message: mail.EmailMessage) -> str:
    found = re.search(r"^    (\S+)$", message.body, re.MULTILINE)
    assert found, message.body
    return found[1]


def without_tokens(answer: HttpResponse) -> str:
    return re.sub(r'name="csrfmiddlewaretoken" value="[^"]+"', "", answer.content.decode())


def sign_up(client: Client, email: str) -> HttpResponse:
    return client.post("/accounts/signup/", {"email": email, "password1": PASSWORD})


def sign_in(client: Client, email: str, password: str = PASSWORD, **more: str) -> HttpResponse:
    return client.post("/accounts/login/", {"login": email, "password": password, **more})


def test_signing_up_by_code_makes_an_organization_with_its_owner(client: Client):
    answer = sign_up(client, "Ada.Lovelace@Example.com")
    assert (answer.status_code, answer["Location"]) == (302, "/accounts/confirm-email/")
    assert client.get("/keys").status_code == 302, "not signed in before the code"
    [message] = mail.outbox
    assert message.to == ["ada.lovelace@example.com"]

    answer = client.post("/accounts/confirm-email/", {"code": code_in(message)})

    assert (answer.status_code, answer["Location"]) == (302, "/home")
    assert "No key yet" in client.get("/keys").content.decode()
    membership = Membership.unscoped.get(user__email="ada.lovelace@example.com")
    assert membership.role == roles.OWNER
    assert membership.organization.slug == "adalovelace"
    entries = AuditEntry.objects.of(membership.organization).order_by("pk")
    assert [entry.verb for entry in entries] == ["organization.opened", "member.signed_in"]


def test_the_slug_is_unique_and_the_name_can_be_changed(client: Client):
    for email in ("ada@one.example", "ada@two.example", "+++@three.example"):
        sign_up(Client(), email)

    slugs = list(Organization.objects.order_by("pk").values_list("slug", flat=True))
    assert slugs[0] == "ada"
    assert re.fullmatch(r"ada-[0-9a-z]{8}", slugs[1])
    assert slugs[2] == "organization"

    client.force_login(User.objects.get(email="ada@one.example"))
    assert client.post("/organization", {"name": "Analytical Engines"}).status_code == 302
    first = Organization.objects.get(slug="ada")
    assert first.name == "Analytical Engines"
    assert AuditEntry.objects.of(first).get(verb="organization.renamed").detail == {
        "name": ["ada", "Analytical Engines"]
    }


def test_a_wrong_code_confirms_nothing(client: Client):
    sign_up(client, "ada@example.com")

    answer = client.post("/accounts/confirm-email/", {"code": "0000-0000"})

    assert answer.status_code == 200
    assert client.get("/keys").status_code == 302


def test_the_embedded_default_says_where_the_mail_lies(client: Client, settings):
    sign_up(client, "ada@example.com")
    settings.EMAIL_URL = ""

    settings.EMBEDDED = True
    assert str(settings.EMAIL_DIR) in client.get("/accounts/confirm-email/").content.decode()

    settings.EMBEDDED = False
    assert str(settings.EMAIL_DIR) not in client.get("/accounts/confirm-email/").content.decode()


def test_signing_up_with_a_known_e_mail_looks_the_same(alice: User, client: Client):
    stranger = Client()
    known, unknown = sign_up(client, alice.email), sign_up(stranger, "alicf@example.com")

    assert (known.status_code, known["Location"]) == (unknown.status_code, unknown["Location"])
    pages = [without_tokens(each.get("/accounts/confirm-email/")) for each in (client, stranger)]
    assert pages[0].replace(alice.email, "*") == pages[1].replace("alicf@example.com", "*")
    assert ["already have" in message.subject for message in mail.outbox] == [True, False]
    assert Organization.objects.count() == 2


def test_signing_in_does_not_tell_which_e_mails_are_known(alice: User, client: Client):
    wrong = without_tokens(sign_in(client, alice.email, "not the password"))
    unknown = without_tokens(sign_in(Client(), "alicf@example.com", "not the password"))

    assert wrong.replace(alice.email, "*") == unknown.replace("alicf@example.com", "*")
    assert "not correct" in wrong


def test_signing_in_begins_a_new_session_and_signing_out_ends_it(alice: User, client: Client):
    client.get("/accounts/login/")
    client.session["seen"] = 1
    before = client.session.session_key

    assert sign_in(client, alice.email)["Location"] == "/home"
    assert client.session.session_key != before
    assert client.get("/keys").status_code == 200

    assert client.post("/accounts/logout/").status_code == 302
    assert client.get("/keys")["Location"] == "/accounts/login/?next=/keys"


def test_the_hash_of_a_password_is_not_a_password(alice: User, client: Client):
    assert alice.password.startswith("scrypt$")

    sign_in(client, alice.email, alice.password)

    assert client.get("/keys").status_code == 302


def test_a_forgotten_password_is_replaced_by_code(alice: User, client: Client):
    answer = client.post("/accounts/password/reset/", {"email": alice.email}, follow=True)
    assert "Reset your password" in answer.content.decode()
    [message] = mail.outbox
    answer = client.post("/accounts/password/reset/confirm/", {"code": code_in(message)}, follow=True)
    assert "Choose a new password" in answer.content.decode()

    new = "another long password 42"
    form = {"password1": new, "password2": new}
    answer = client.post("/accounts/password/reset/complete/", form, follow=True)
    assert "Your password is changed" in answer.content.decode()

    assert "not correct" in sign_in(Client(), alice.email).content.decode()
    assert sign_in(Client(), alice.email, new)["Location"] == "/home"


def test_asking_for_a_reset_does_not_tell_which_e_mails_are_known(alice: User, client: Client):
    stranger = Client()
    known = client.post("/accounts/password/reset/", {"email": alice.email}, follow=True)
    unknown = stranger.post("/accounts/password/reset/", {"email": "alicf@example.com"}, follow=True)

    assert known.redirect_chain == unknown.redirect_chain
    pages = [without_tokens(answer) for answer in (known, unknown)]
    assert pages[0].replace(alice.email, "*") == pages[1].replace("alicf@example.com", "*")


def test_a_changed_password_ends_the_sessions(alice: User, client: Client):
    elsewhere = Client()
    sign_in(client, alice.email)
    sign_in(elsewhere, alice.email)

    new = "another long password 42"
    form = {"oldpassword": PASSWORD, "password1": new, "password2": new}
    assert client.post("/accounts/password/change/", form).status_code == 302

    assert elsewhere.get("/keys").status_code == 302
    assert client.get("/keys").status_code == 302


@pytest.mark.parametrize("weak", ["short", "password123", "alice@example.com"])
def test_a_weak_password_is_refused(client: Client, weak: str):
    answer = client.post("/accounts/signup/", {"email": "alice@example.com", "password1": weak})

    assert answer.status_code == 200
    assert not User.objects.exists()


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "javascript:alert(1)",
        "https:evil.example",
        "http:///evil.example",
        "/%09/evil.example\t",
    ],
)
def test_signing_in_leads_nowhere_else(alice: User, client: Client, elsewhere: str):
    answer = sign_in(client, alice.email, next=elsewhere)

    assert answer.status_code == 302
    assert "evil" not in answer["Location"] or answer["Location"].startswith("/%")
    assert "javascript" not in answer["Location"]


def test_the_first_key_of_a_new_owner_works(client: Client):
    sign_up(client, "ada@example.com")
    client.post("/accounts/confirm-email/", {"code": code_in(mail.outbox[0])})

    page = client.post("/keys/new", {"name": "first", "scope": "inference", "limit_window": "total"})

    text = re.search(r"fl_live_\w+", page.content.decode())[0]
    assert keys.principal(text).name == "first"


def test_a_code_can_be_sent_again_but_not_at_once(client: Client):
    sign_up(client, "ada@example.com")

    assert client.post("/accounts/confirm-email/", {"action": "resend"}).status_code == 429
    with time_machine.travel(clock.now() + timedelta(minutes=4)):
        assert client.post("/accounts/confirm-email/", {"action": "resend"}).status_code == 302
        first, second = (code_in(message) for message in mail.outbox)
        assert first != second
        assert client.post("/accounts/confirm-email/", {"code": first}).status_code == 200
        assert client.post("/accounts/confirm-email/", {"code": second})["Location"] == "/home"


def test_sending_again_does_not_tell_which_e_mails_are_known(alice: User, client: Client):
    stranger = Client()
    sign_up(client, alice.email)
    sign_up(stranger, "alicf@example.com")

    with time_machine.travel(clock.now() + timedelta(minutes=4)):
        answers = [each.post("/accounts/confirm-email/", {"action": "resend"}) for each in (client, stranger)]
    assert len({(answer.status_code, answer.get("Location")) for answer in answers}) == 1


@pytest.mark.parametrize(
    "page",
    ["/home", "/start", "/overview", "/models", "/playground", "/activity", "/keys", "/billing", "/pricing"],
)
def test_who_has_just_signed_up_sees_every_page_before_a_job_has_opened_their_wallet(
    page: str, alice: User, browser: Callable[[User], Client]
):
    assert not Wallet.unscoped.exists()

    assert browser(alice).get(page, follow=True).status_code == 200
