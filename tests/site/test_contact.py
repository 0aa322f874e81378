"""Writing to us: kept, mailed once to the operators, answered to whoever asked, and no way to flood them."""

from __future__ import annotations

import pytest
from django.core import mail
from django.core.cache import cache

from accounts import signup
from billing import inquiries
from billing.models import Inquiry

pytestmark = pytest.mark.django_db
SAID = {
    "name": "Ada",
    "email": "ada@example.com",
    "company": "Engines Ltd",
    "spend": inquiries.SPENDS[1],
    "text": "A thousand calls a second.\nIn the EU.",
    "website": "",
}


@pytest.fixture(autouse=True)
def _operators(settings) -> None:
    settings.OPERATOR_EMAILS = ["ops@example.com"]
    cache.clear()


def test_a_message_is_mailed_once_to_the_operators_with_the_asker_to_reply_to(client, monkeypatch):
    answer = client.post("/contact", SAID)
    (row,) = Inquiry.objects.all()
    sent = [inquiries.send(str(row.pk)), inquiries.send(str(row.pk)), inquiries.send_waiting()]

    assert answer.status_code == 302 and answer.url == "/contact/thanks"
    assert sent == [True, False, 0]
    (letter,) = mail.outbox
    assert (letter.to, letter.reply_to) == (["ops@example.com"], ["ada@example.com"])
    assert "Engines Ltd" in letter.subject and SAID["text"] in letter.body
    assert "$1,000 to $10,000" in letter.body and "none, not signed in" in letter.body
    assert "Thank you" in client.get(answer.url).content.decode()


def test_what_waits_for_a_mail_server_is_mailed_later(client, settings):
    settings.OPERATOR_EMAILS = []
    client.post("/contact", SAID)
    assert inquiries.send_waiting() == 0
    settings.OPERATOR_EMAILS = ["ops@example.com"]

    assert inquiries.send_waiting() == 1


def test_a_header_cannot_be_written_by_whoever_asks(client):
    client.post("/contact", {**SAID, "company": "x\r\nBcc: all@example.com"})

    inquiries.send_waiting()

    assert mail.outbox[0].subject == "[Fairlead] x Bcc: all@example.com asks" and not mail.outbox[0].bcc


def test_what_was_typed_is_kept_when_something_is_missing(client):
    page = client.post("/contact", {**SAID, "email": "ada"})

    assert page.status_code == 422 and not Inquiry.objects.exists()
    text = page.content.decode()
    assert "A thousand calls a second." in text and 'value="Engines Ltd"' in text


def test_a_fourth_message_of_one_address_within_an_hour_is_refused_and_kept_on_the_page(client):
    answers = [client.post("/contact", {**SAID, "email": email}) for email in ("a@x.org", "A@x.org") * 2]

    assert [answer.status_code for answer in answers] == [302, 302, 302, 429]
    assert "A thousand calls a second." in answers[-1].content.decode()
    assert Inquiry.objects.count() == 3
    others = [client.post("/contact", {**SAID, "email": f"{n}@x.org"}).status_code for n in range(3)]
    assert others[-1] == 429  # too many from one network, whoever they say they are


def test_what_a_person_does_not_see_and_a_program_fills_in_tells_them_apart(client):
    answer = client.post("/contact", {**SAID, "website": "https://spam.example"})

    assert answer.url == "/contact/thanks" and not Inquiry.objects.exists()


def test_who_is_signed_in_finds_their_address_and_organization_filled_in(client):
    user, home = signup.register("grace@example.com", "correct horse battery staple")
    client.force_login(user)

    page = client.get("/contact").content.decode()
    client.post("/contact", SAID)

    assert 'value="grace@example.com"' in page and f'value="{home.name}"' in page
    assert Inquiry.objects.get().organization == home
