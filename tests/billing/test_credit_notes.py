"""Credit notes: what operators give back, once, with a reason, and never more than there was."""

from __future__ import annotations

from io import StringIO

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, User
from billing import history
from billing.core.money import usd
from billing.documents import credit_notes
from billing.models import CreditLot, Document, Posting
from tests.billing.documented import FIRST_OF_JUNE, IN_MAY, LARGE, USD, Books, broken

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def acme(monkeypatch):
    made = Books(monkeypatch)
    made.use(IN_MAY, LARGE)
    made.at(FIRST_OF_JUNE)
    made.close()
    return made


def test_a_credit_note_gives_the_money_back_once_and_never_more_than_the_total(acme):
    document, before = acme.document(), acme.balance()
    name = "0197fd1a-0000-7000-8000-000000000001"
    out = StringIO()

    for _ in range(2):
        call_command(
            "credit_note",
            document.number,
            amount="1000",
            reason="Too slow",
            once=name,
            stdout=out,
            skip_checks=True,
        )

    assert acme.balance() == before + 1000 * USD
    assert "CN-2026-000001 corrects ST-2026-000001 by $1,000.00" in out.getvalue()
    left = document.total_nanos - 1000 * USD
    for bad in (usd(left + 1), "0", "-1", "much"):
        with pytest.raises(CommandError):
            call_command("credit_note", document.number, amount=bad, reason="x", stdout=out, skip_checks=True)
    with pytest.raises(CommandError, match="credit note"):
        call_command("credit_note", "CN-2026-000001", amount="1", reason="x", stdout=out, skip_checks=True)
    with pytest.raises(CommandError, match="no document"):
        call_command("credit_note", "ST-2026-000009", amount="1", reason="x", stdout=out, skip_checks=True)
    credit_notes.issue(document.number, left, reason="All of it")
    assert acme.document().content == document.content
    assert acme.balance() == before + document.total_nanos
    assert broken() == {}


def test_an_operator_corrects_a_document_once_by_a_form_and_the_customer_reads_why(acme):
    person = User.objects.create_superuser(email="operator@example.com", password="a-long-password-1")
    operator, document = Client(), acme.document()
    operator.force_login(person)
    page = reverse("admin:billing_document_credit_note", args=[document.pk])
    form = {"nanos": "12.50", "reason": "an outage of ours"}
    form["once"] = operator.get(page).context["form"]["once"].value()

    too_much = operator.post(page, {**form, "nanos": "99999"})
    answers = [operator.post(page, form) for _ in range(2)]

    assert too_much.status_code == 200 and "can be credited" in too_much.content.decode()
    assert [answer.status_code for answer in answers] == [302, 302]
    note = Document.objects.of(acme.organization).get(corrects=document)
    lot = CreditLot.objects.of(acme.organization).get(posting__source_id=str(note.pk))
    assert (lot.kind, lot.nanos) == ("rebate", 12_500_000_000)
    entry = AuditEntry.objects.of(acme.organization).get(verb="document.credited")
    assert (entry.actor, entry.object) == ("user:operator@example.com", document.number)
    (row,) = [row for row in history.page(acme.organization.pk).rows if row.kind == "credit_note"]
    assert row.detail == f"{note.number}: an outage of ours"
    assert Posting.objects.get(kind="credit_note").source == "document"
    looker = User.objects.create_user("looker@example.com", "a long password 42", is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_document"))
    operator.force_login(looker)
    assert operator.post(page, {**form, "once": "0197fd1a-0000-7000-8000-000000000002"}).status_code in (
        302,
        403,
    )
    assert Document.objects.of(acme.organization).filter(corrects=document).count() == 1
