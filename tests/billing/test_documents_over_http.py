"""Documents on pages and over the API: read, saved, paged, sent, and by nobody of another organization."""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.core import mail
from django.db import IntegrityError, transaction

from accounts.core import roles
from accounts.models import AuditEntry
from aggregator.site import openapi
from billing.documents import confirming, issued, kept, pdf, profiles
from billing.documents import content as contents
from billing.models import BillingProfile, Document, Letter
from tests.billing import books, papers
from tests.billing.looking import look, signed_in
from tests.site import described

pytestmark = pytest.mark.django_db


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────


def test_without_documents_the_page_shows_the_running_month_and_says_what_will_come(alice):
    page = look(alice, "/billing/invoices")

    assert "No documents yet" in page and "so far $0.00" in page
    assert "Invoices and statements" in look(alice)


def test_the_list_shows_each_document_with_its_total_and_state(alice, shop):
    first = papers.issue(shop, "invoice", month=date(2026, 10, 1))
    papers.issue(shop)
    note = papers.issue(shop, "credit_note", month=date(2026, 10, 1), corrects=first)
    page = look(alice, "/billing/invoices")

    assert page.index("November 2026") < page.index("October 2026")
    assert f"{note.number} Credit note for {first.number}" in page
    assert "$12.50 credited" in page
    only = look(alice, "/billing/invoices?kind=invoice")
    assert first.number in only and f"{note.number} " not in only


def test_a_document_is_shown_with_its_arithmetic_and_its_links_both_ways(alice, shop):
    invoice = papers.issue(shop, "invoice")
    note = papers.issue(shop, "credit_note", corrects=invoice)
    page, of_note = (look(alice, f"/billing/invoices/{each.pk}") for each in (invoice, note))

    said = invoice.content
    assert f"Invoice {invoice.number}" in page and "Harbour Works Ltd" in page
    for title in ("Summary", "Credit", "From the lines to the total", "Usage"):
        assert title in page
    cents = said["due"]["total_cents"]
    assert f"${cents // 100:,}.{cents % 100:02d}" in page
    for line in said["usage"]:
        assert line["model"] in page and f"{line['provider']} · {line['key_name']}" in page
    assert f"Credit note {note.number}" in page and f"/billing/invoices/{note.pk}" in _raw(alice, invoice)
    assert "A provider billed a cache read twice" in of_note
    assert f"/billing/invoices/{invoice.pk}" in _raw(alice, note)


def _raw(client, document):
    return client.get(f"/billing/invoices/{document.pk}").content.decode()


def test_what_people_wrote_is_escaped_on_the_page(alice, shop):
    papers.issue(shop, usage=[papers.line(key_name="<script>alert(1)</script>")])
    (row,) = Document.objects.of(shop)

    assert "<script>alert(1)" not in _raw(alice, row)
    assert "&lt;script&gt;alert(1)" in _raw(alice, row)


def test_the_running_month_is_read_like_a_document_and_cannot_be_saved(alice, shop):
    books.deliver(books.make_key(shop), books.make_price())
    page = look(alice, "/billing/invoices/current")

    assert "Running statement" in page and "The month is not over" in page
    assert "acme/swift" in page and "Balance now" in page
    assert ".pdf" not in alice.get("/billing/invoices/current").content.decode()


# ── Files ────────────────────────────────────────────────────────────────────────────────────────


def test_a_document_is_saved_as_the_same_bytes_again_and_again(alice, shop, monkeypatch):
    row = papers.issue(shop, lines=2)
    path = f"/billing/invoices/{row.pk}"
    first = alice.get(f"{path}.pdf")

    monkeypatch.setattr(pdf, "render", lambda content: pytest.fail("it is kept"))
    again = alice.get(f"{path}.pdf")
    assert first.content == again.content and first.content.startswith(b"%PDF-")
    assert first["Content-Disposition"] == f'attachment; filename="{row.number}.pdf"'
    assert first["Content-Type"] == "application/pdf"
    assert "private, no-store" in first["Cache-Control"]
    assert bytes(Document.objects.of(shop).get().pdf) == first.content
    assert alice.get(f"{path}.json").content == contents.canonical(row.content)
    read = csv.DictReader(io.StringIO(alice.get(f"{path}.csv").content.decode()))
    assert sum(Decimal(line["amount_usd"] or 0) for line in read) == Decimal(row.content["total"])


def test_an_issued_document_and_its_pdf_never_change(shop):
    row = papers.issue(shop, lines=1)
    kept.as_pdf(row)

    for change in ({"pdf": b"%PDF-other"}, {"pdf": None}, {"number": "ST-2026-999999"}, {"total_nanos": 1}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Document.objects.of(shop).update(**change)
    with pytest.raises(IntegrityError), transaction.atomic():
        Document.objects.of(shop).delete()


def test_a_typesetter_that_cannot_is_said_and_the_other_files_are_there(alice, shop, monkeypatch):
    row = papers.issue(shop, lines=1)
    monkeypatch.setattr(pdf, "SECONDS", 0.001)

    answer = alice.get(f"/billing/invoices/{row.pk}.pdf", follow=True)
    assert "The PDF" in answer.content.decode()
    assert answer.redirect_chain == [(f"/billing/invoices/{row.pk}", 302)]
    assert alice.get(f"/billing/invoices/{row.pk}.csv").status_code == 200


# ── Who may ──────────────────────────────────────────────────────────────────────────────────────


def test_documents_are_for_those_who_look_after_billing_of_that_organization(alice, _client, shop, asks):
    other = books.make_organization("other")
    hers = papers.issue(other)
    for form in ("", ".pdf", ".csv", ".json"):
        assert alice.get(f"/billing/invoices/{hers.pk}{form}").status_code == 404
    for form in ("", ".pdf", ".csv"):
        assert asks(f"/invoices/{hers.pk}{form}").status_code == 404
    assert asks("/invoices").json() == {"data": [], "next": None}

    mine = papers.issue(shop)
    bob = signed_in(_client, shop, roles.MEMBER)
    for path in ("", "/current", f"/{mine.pk}", f"/{mine.pk}.pdf", f"/{mine.pk}.csv", f"/{mine.pk}.json"):
        assert bob.get(f"/billing/invoices{path}").status_code == 403
    assert bob.get("/billing/profile").status_code == bob.post("/billing/profile").status_code == 403


# ── The API ──────────────────────────────────────────────────────────────────────────────────────


def test_the_api_lists_by_pages_and_filters(asks, shop):
    rows = [papers.issue(shop, month=date(2026, month, 1), lines=1) for month in range(1, 8)]
    seen, after = [], None
    while True:
        answer = asks("/invoices", limit=3, **({"after": after} if after else {})).json()
        seen += [row["number"] for row in answer["data"]]
        after = answer["next"]
        if after is None:
            break

    assert seen == [row.number for row in reversed(rows)]
    (march,) = asks("/invoices", month="2026-03").json()["data"]
    assert (march["number"], march["month"], march["status"]) == (rows[2].number, "2026-03", "issued")
    assert march["total"] == rows[2].content["total"]
    assert asks("/invoices", kind="invoice").json()["data"] == []


@pytest.mark.parametrize(
    "query", [{"kind": "bill"}, {"month": "2026-13"}, {"limit": "0"}, {"limit": "201"}, {"x": "1"}]
)
def test_a_list_that_cannot_be_meant_is_refused_by_the_name_of_the_field(asks, query):
    answer = asks("/invoices", **query)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == next(iter(query))


def test_the_api_reads_one_document_with_what_became_of_it(asks, shop):
    invoice = papers.issue(shop, "invoice")
    note = papers.issue(shop, "credit_note", corrects=invoice)
    said = asks(f"/invoices/{invoice.pk}").json()["data"]

    assert said["document"] == json.loads(contents.canonical(invoice.content))
    assert said["credit_notes"] == [{"id": str(note.pk), "number": note.number}]
    assert (said["credited"], said["due_cents"]) == ("12.5", invoice.content["due"]["total_cents"])
    of_note = asks(f"/invoices/{note.pk}").json()["data"]
    assert of_note["corrects"] == {"id": str(invoice.pk), "number": invoice.number}


def test_what_the_api_says_of_documents_is_what_it_is_described_to_say(asks, shop):
    invoice = papers.issue(shop, "invoice", month=date(2026, 10, 1))
    note = papers.issue(shop, "credit_note", month=date(2026, 10, 1), corrects=invoice)
    papers.issue(shop, others=[papers.other(5, "acme/rest")])
    books.deliver(books.make_key(shop), books.make_price())
    described_ = openapi.document("https://fairlead.example/api/v1")

    for path, query, schema in (
        ("/invoices", {}, "InvoiceList"),
        ("/invoices", {"limit": 1, "kind": "invoice"}, "InvoiceList"),
        (f"/invoices/{invoice.pk}", {}, "InvoiceAnswer"),
        (f"/invoices/{note.pk}", {}, "InvoiceAnswer"),
        ("/invoices/current", {}, "RunningAnswer"),
    ):
        answer = asks(path, **query)
        assert answer.status_code == 200, path
        described.fits(described_, schema, answer.json())


def test_the_api_gives_files_whatever_they_are_asked_for_as(asks, _client, shop):
    row = papers.issue(shop, lines=1)
    printed = asks(f"/invoices/{row.pk}.pdf")

    assert printed["Content-Type"] == "application/pdf" and printed.content.startswith(b"%PDF-")
    assert asks(f"/invoices/{row.pk}.csv").content.decode() == kept.as_csv(row)
    for path in ("/invoices/nothing", "/invoices/nothing.pdf", f"/invoices/{uuid.uuid4()}.csv"):
        answer = asks(path)
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found"), path


def test_the_api_reads_the_running_month(asks, shop):
    books.deliver(books.make_key(shop), books.make_price())
    said = asks("/invoices/current").json()["data"]

    assert (said["id"], said["status"], said["document"]["number"]) == (None, "running", None)
    assert said["document"]["usage"][0]["model"] == "acme/swift"
    assert Decimal(said["document"]["total"]) > 0


# ── The profile ──────────────────────────────────────────────────────────────────────────────────

PROFILE = {
    "name": "Harbour Works Ltd",
    "address": " 14 Quay Street \n\n Bristol ",
    "tax_id": "GB123456789",
    "reference": "PO-1",
    "email": "accounts@harbour.example",
}


def test_the_billing_profile_is_kept_and_audited_and_stands_on_what_comes(alice, shop):
    answer = alice.post("/billing/profile", PROFILE)

    assert answer.status_code == 302
    row = BillingProfile.objects.of(shop).get()
    assert (row.name, row.address) == ("Harbour Works Ltd", "14 Quay Street\nBristol")
    assert contents.buyer(shop)["address"] == ["14 Quay Street", "Bristol"]
    (entry,) = AuditEntry.objects.of(shop).filter(verb="billing_profile.changed")
    assert entry.detail["tax_id"] == "GB123456789"
    assert "Harbour Works Ltd" in look(alice, "/billing/invoices")
    alice.post("/billing/profile", PROFILE)
    assert AuditEntry.objects.of(shop).filter(verb="billing_profile.changed").count() == 1
    assert "changed who invoices are for" in look(alice, "/organization/audit")


def test_a_profile_that_cannot_be_taken_keeps_what_was_typed(alice, shop):
    answer = alice.post("/billing/profile", {**PROFILE, "email": "nobody", "address": "x\n" * 9 + "y"})

    assert answer.status_code == 422
    page = answer.content.decode()
    assert 'value="nobody"' in page and "At most 6 lines" in page
    assert not BillingProfile.objects.of(shop).exists()


# ── Who is told ──────────────────────────────────────────────────────────────────────────────────


def _tell(document, run):
    with run(execute=True):
        issued.tell(document)


def test_a_document_is_sent_once_with_its_pdf_to_the_invoice_address(
    alice, shop, django_capture_on_commit_callbacks
):
    from billing import letters

    confirming.confirm(confirming.token(profiles.change(shop, by="test", email="accounts@harbour.example")))
    row = papers.issue(shop, lines=1)
    for _ in range(2):
        _tell(row, django_capture_on_commit_callbacks)
    letters.send_waiting()
    letters.send_waiting()

    (letter,) = mail.outbox
    assert letter.to == ["accounts@harbour.example"]
    assert letter.subject == f"Statement {row.number} for November 2026"
    assert f"/billing/invoices/{row.pk}" in letter.body
    (attached,) = letter.attachments
    assert (attached.filename, attached.mimetype) == (f"{row.number}.pdf", "application/pdf")
    assert attached.content == kept.as_pdf(row)
    assert Document.objects.of(shop).get().emailed_at is not None


def test_the_organizations_endpoints_are_told_once(shop):
    from accounts.models import WebhookEvent

    row = papers.issue(shop, lines=1)
    for _ in range(2):
        issued.tell(row)

    (event,) = WebhookEvent.objects.of(shop)
    assert event.type == "invoice.issued"
    assert event.data == {
        "id": str(row.pk),
        "kind": "statement",
        "number": row.number,
        "month": "2026-11",
        "total": row.content["total"],
    }


def test_without_an_invoice_address_it_goes_to_who_looks_after_billing(alice, _client, shop):
    signed_in(_client, shop, roles.MEMBER)
    issued.tell(papers.issue(shop, lines=1))

    (letter,) = Letter.objects.of(shop)
    assert letter.to == ["owner-of-acme@example.com"]


def test_a_letter_is_written_though_there_is_no_pdf(shop, monkeypatch):
    from billing import alerts

    monkeypatch.setattr(pdf, "SECONDS", 0.001)
    row = papers.issue(shop, lines=1)
    issued.tell(row)

    assert Letter.objects.of(shop).count() == 1
    assert [alert.kind for alert in alerts.open_alerts()] == ["document_untypeset"]


def test_what_cannot_be_typeset_is_refused_at_once_for_a_while_and_then_tried_again(
    asks, shop, monkeypatch, tmp_path
):
    from aggregator.lib import clock
    from billing import alerts
    from billing.models import Alert

    row, well = papers.issue(shop, lines=1), pdf._PRESS
    monkeypatch.setattr(pdf, "_PRESS", broken := tmp_path / "press.py")
    tried = tmp_path / "tried"
    broken.write_text(f"with open({str(tried)!r}, 'a') as file:\n    file.write('x')\nraise SystemExit(1)\n")
    answers = [asks(f"/invoices/{row.pk}.pdf") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [503] * 3
    assert all(590 <= int(answer["Retry-After"]) <= 600 for answer in answers)
    assert tried.read_text() == "x"
    assert Alert.objects.get(subject=row.number).count == 1

    started = clock.now()
    monkeypatch.setattr(clock, "now", lambda: started + kept.AGAIN)
    assert asks(f"/invoices/{row.pk}.pdf").status_code == 503
    assert tried.read_text() == "xx" and Alert.objects.get(subject=row.number).count == 2

    monkeypatch.setattr(pdf, "_PRESS", well)
    assert asks(f"/invoices/{row.pk}.pdf").status_code == 503
    alerts.resolve(kept.UNTYPESET, row.number)
    assert asks(f"/invoices/{row.pk}.pdf").status_code == 200
    assert not alerts.open_alerts()


def test_a_pdf_that_is_there_is_given_whatever_failed_before(asks, shop):
    from billing import alerts

    row = papers.issue(shop, pdf=b"%PDF-kept")
    alerts.raise_alert(kept.UNTYPESET, row.number, "it failed")

    assert asks(f"/invoices/{row.pk}.pdf").content == b"%PDF-kept"


def test_a_document_whose_job_was_lost_is_told_later_and_once(shop, monkeypatch):
    from aggregator.lib import clock

    row = papers.issue(shop, lines=1)
    monkeypatch.setattr(clock, "now", lambda: row.issued_at + timedelta(hours=1))

    assert (issued.tell_waiting(), issued.tell_waiting()) == (1, 0)
    assert Letter.objects.of(shop).get().subject_id == str(row.pk)


def test_the_letter_of_a_credit_note_says_what_it_corrects_and_why(shop):
    from django.template.loader import render_to_string

    invoice = papers.issue(shop, "invoice")
    issued.tell(papers.issue(shop, "credit_note", corrects=invoice))
    letter = Letter.objects.of(shop).get()
    text = render_to_string(
        "emails/document_issued.txt", {**letter.context, "organization": shop, "url": "https://x/billing"}
    )

    assert f"corrects {invoice.number} by $12.50" in text
    assert "Why: A provider billed a cache read twice." in text
    assert not re.search(r"\{[{%]", text)
