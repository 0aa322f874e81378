"""A document as a PDF, by the real typesetter: its text is read back out of its bytes."""

from __future__ import annotations

import io
import json

import pytest
from pypdf import PdfReader

from billing.documents import layout, pdf
from tests.billing import papers

AT = 1_800_000_000


def _text(printed: bytes) -> str:
    """Words of all pages."""
    pages = PdfReader(io.BytesIO(printed)).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split())


def test_the_same_content_gives_the_same_bytes_and_says_what_the_content_says():
    content = papers.content("invoice")
    printed = pdf.render(content)
    text = _text(printed)

    assert printed == pdf.render(json.loads(json.dumps(content)))
    assert "Invoice" in text and "IN-2026-000042" in text and "Harbour Works Ltd" in text
    shown = layout.of(content)
    assert shown.headline["amount"] in text
    for section in shown.sections:
        assert section.title in text
    for model in shown.models:
        assert model.model in text and model.amount in text.replace(" ", "")


def test_it_can_be_read_by_all_and_has_a_title_a_language_and_a_fixed_date():
    reader = PdfReader(io.BytesIO(pdf.render(papers.content("statement", lines=1))))

    assert reader.metadata.title == "Statement ST-2026-000042"
    assert reader.metadata.creation_date.isoformat().startswith("2026-12-01T06:00:00")
    root = reader.trailer["/Root"]
    assert root["/Lang"].lower().startswith("en")
    assert root["/MarkInfo"]["/Marked"]
    assert b"pdfuaid" in root["/Metadata"].get_data()


def test_what_people_wrote_is_shown_as_they_wrote_it_and_never_run():
    injected = '#read("/etc/passwd") *x* $a$ `c` <l> @r \\ // [#panic()]'
    content = papers.content("statement", lines=2)
    content["usage"][0]["key_name"] = injected
    content["buyer"] = {**papers.BUYER, "name": injected, "address": ['#include "/etc/hosts"', "= Heading"]}
    text = _text(pdf.render(content))

    assert text.count(injected) >= 2
    assert '#include "/etc/hosts"' in text and "= Heading" in text
    assert "root:" not in text and "localhost" not in text


def test_names_in_other_scripts_and_very_long_ones_are_shown():
    long = "x" * 300
    content = papers.content("statement", lines=2)
    content["usage"][0]["key_name"] = long
    content["buyer"] = {
        **papers.BUYER,
        "name": "Порт Αθήνα 海港有限公司 ハーバー 항구",
        "reference": "y" * 200,
    }
    printed = pdf.render(content)
    text = _text(printed)

    assert "ПортΑθήνα海港有限公司ハーバー항구" in text.replace(" ", "")
    assert b"pdfuaid" in printed, "every sign is there"
    assert text.replace(" ", "").count("x" * 300) == 1
    assert "\u200b" not in text, "what is copied or searched for is what was written"
    assert "y" * 200 in text.replace(" ", "")


def test_a_sign_that_no_font_has_leaves_a_box_and_not_a_missing_document():
    printed = pdf.render(
        papers.content("statement", lines=1, buyer={**papers.BUYER, "name": "\U000131f3 Ltd"})
    )

    assert "Ltd" in _text(printed)


def test_a_long_document_repeats_its_heads_and_counts_its_pages():
    reader = PdfReader(io.BytesIO(pdf.render(papers.content("statement", lines=40))))
    pages = [page.extract_text() for page in reader.pages]

    assert len(pages) > 4
    for number, page in enumerate(pages, 1):
        assert f"Page {number} of {len(pages)}" in page
    for page in pages[2:]:
        assert "Unit price" in page and "ST-2026-000042" in page


def test_the_typesetter_is_bounded_and_says_when_it_cannot(monkeypatch):
    broken = json.dumps({"layout": {"title": 1}, "issued_at": AT}).encode()
    with pytest.raises(pdf.Untypeset):
        pdf._pressed(broken)
    monkeypatch.setattr(pdf, "SECONDS", 0.001)
    with pytest.raises(pdf.Untypeset, match="longer than"):
        pdf.render(papers.content("statement", lines=1))
