"""Documents go to an address once whoever reads its mail has said so, and until then to who pays."""

from __future__ import annotations

import re
from datetime import date, timedelta

import pytest
from django.core import mail
from django.core.signing import dumps

from accounts.models import AuditEntry
from billing import letters
from billing.documents import confirming, issued, profiles
from billing.models import BillingProfile, Letter
from tests.billing import books, papers
from tests.billing.looking import look

pytestmark = pytest.mark.django_db

ADDRESS = "accounts@harbour.example"


def save(alice, email=ADDRESS):
    assert alice.post("/billing/profile", {"name": "", "email": email}).status_code == 302
    letters.send_waiting()


def link():
    """The path of the newest letter's link."""
    return re.search(r"/billing/address/\S+", mail.outbox[-1].body)[0]


def goes_to(shop, month):
    """Who gets a document that is issued now."""
    row = papers.issue(shop, month=date(2026, month, 1), lines=1)
    issued.tell(row)
    return Letter.objects.of(shop).get(kind="document_issued", subject_id=str(row.pk)).to


def test_documents_go_to_who_looks_after_billing_until_the_address_is_confirmed(alice, client, shop):
    owners = letters.readers(shop.pk)
    save(alice)
    (letter,) = mail.outbox
    assert letter.to == [ADDRESS] and letter.subject == f"Confirm where invoices for {shop.name} are sent"
    assert f"until {ADDRESS} is confirmed" in look(alice, "/billing/invoices")
    assert "save to send the link again" in look(alice, "/billing/profile")

    page = client.get(link())  # as a program does that looks at the links of a letter
    assert page.status_code == 200 and "Confirm this address" in page.content.decode()
    assert BillingProfile.objects.of(shop).get().email_confirmed_at is None
    assert goes_to(shop, 1) == owners != [ADDRESS]
    for _ in range(2):
        assert "This address is confirmed" in client.post(link()).content.decode()

    (entry,) = AuditEntry.objects.of(shop).filter(verb="billing_profile.confirmed")
    assert entry.detail == {"email": ADDRESS}
    assert goes_to(shop, 2) == [ADDRESS]
    assert f"Sent to {ADDRESS}" in look(alice, "/billing/invoices")
    save(alice)
    assert not [each for each in mail.outbox[1:] if "Confirm" in each.subject], "it is confirmed already"

    save(alice, "other@harbour.example")
    assert goes_to(shop, 3) == owners
    assert client.post(f"/billing/address/{confirming.token(profile_with(shop, ADDRESS))}").status_code == 404


def profile_with(shop, email):
    return BillingProfile(organization=shop, email=email)


def test_a_link_is_good_for_its_address_and_purpose_alone_and_for_three_days(client, shop, monkeypatch):
    profile = profiles.change(shop, by="test", email=ADDRESS)
    good, said = confirming.token(profile), {"organization": shop.public_id, "email": ADDRESS}
    for bad in (
        good[:-1],
        dumps(said),
        dumps(said, salt="other"),
        confirming.token(profile_with(books.make_organization("other"), ADDRESS)),
    ):
        for asks in (client.get, client.post):
            answer = asks(f"/billing/address/{bad}")
            assert answer.status_code == 404 and "This link is not good" in answer.content.decode()
    monkeypatch.setattr(confirming, "GOOD_FOR", timedelta(seconds=-1))
    assert client.post(f"/billing/address/{good}").status_code == 404
    assert BillingProfile.objects.of(shop).get().email_confirmed_at is None


def test_nobody_is_flooded_with_links(alice, shop):
    for number in range(confirming.MOST_A_DAY + 2):
        save(alice, f"somebody{number}@harbour.example")

    assert len(mail.outbox) == confirming.MOST_A_DAY
    assert "Too many links were sent today" in look(alice, "/billing/invoices")


def test_the_address_of_who_looks_after_billing_anyway_needs_no_link(alice, shop):
    (owner,) = letters.readers(shop.pk)
    save(alice, owner)

    assert mail.outbox == []
    assert f"Sent to {owner}" in look(alice, "/billing/invoices")
