"""Statements, invoices and credit notes: what `GET /invoices` and the paths under it answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aggregator.site.openapi.described import Operation, Parameter
from aggregator.site.openapi.shapes import (
    Schema,
    data,
    moment,
    one_of,
    or_null,
    ref,
    several,
    text,
    thing,
    whole,
)

TAG: Final = "Invoices"
KINDS: Final = ("statement", "invoice", "credit_note")
MONTH: Final = r"^\d{4}-\d{2}$"
ID: Final = "0193b5a0-0000-7000-8000-000000000041"
_PURPOSES: Final = ("month", "postpaid", "subscription", "correction")
_LINE_KINDS: Final = ("charged", "capped", "free")
_AMOUNT: Final = r"^-?\d+(\.\d+)?$"


def _usd(says: str = "") -> Schema:
    return text(says or "Exact dollars.", pattern=_AMOUNT)


def _any(says: str) -> Schema:
    return {"type": "object", "description": says, "additionalProperties": True}


_STANDS: Final[dict[str, Schema]] = {
    "id": text(),
    "kind": one_of(KINDS),
    "purpose": one_of(_PURPOSES),
    "number": text("Without a gap in its series and year."),
    "month": or_null(text("Null of a subscription's invoice.", pattern=MONTH)),
    "issued_at": moment(),
    "total": _usd("Exact dollars, without tax."),
    "due_cents": or_null(whole("What an invoice asks for, with tax.")),
    "tax_cents": or_null(whole()),
    "status": text(
        "Of an invoice `open`, `past_due`, `paid`, `void` or `uncollectible`; of the others `issued`."
    ),
    "due_at": or_null(moment("By when an open invoice is to be paid, as it stands now.")),
    "paid_at": or_null(moment()),
    "pay_url": or_null(text("Where an open invoice is paid.")),
    "credited": _usd("What credit notes gave back of it."),
    "corrects": or_null(ref("InvoiceRef")),
}
_ITEM: Final = thing(
    {
        "kind": text("Of units, as prices state them."),
        "units": whole(minimum=0),
        "unit_price": or_null(_usd("Dollars per million tokens, or per request; null where it has none.")),
        "base": or_null(_usd("Units × unit price.")),
    }
)
_LINE: Final = thing(
    {
        "model": text(),
        "endpoint": text(),
        "provider": text(),
        "key": text("Its id."),
        "key_name": text("As it was called then."),
        "used_in": or_null(text("The month of use, where it was booked late.", pattern=MONTH)),
        "kind": one_of(_LINE_KINDS, "`capped` was charged no more than its calls had reserved."),
        "requests": whole(minimum=0),
        "markup": text("As a fraction."),
        "price": or_null(whole("The dated price row.")),
        "window": whole("Which of its hours, from 1; 0 is none.", minimum=0),
        "tier": whole("Which of its tiers by length of prompt, from 1; 0 is none.", minimum=0),
        "items": several(ref("InvoiceItem")),
        "base": _usd("The provider's part."),
        "markup_amount": _usd("Ours."),
        "amount": _usd("The two together."),
    },
    "Calls that had one price, window, tier and mark-up.",
)
_SAID: Final = _any("Shown as it is; every field stands in the document.")
_DOCUMENT: Final = thing(
    {
        "version": whole("Of this shape; where there is none, 1.", minimum=2),
        "kind": one_of(KINDS),
        "purpose": one_of(_PURPOSES),
        "number": or_null(text("Null while the month runs.")),
        "issued_at": moment(),
        "currency": text(const="USD"),
        "month": or_null(text(pattern=MONTH)),
        "period": or_null(thing({"from": moment(), "until": moment("Not included.")})),
        "seller": _SAID,
        "buyer": _any("Name, address, tax id and reference, as they were when it was issued."),
        "plan": text(),
        "usage": several(ref("InvoiceLine")),
        "others": several(
            _SAID, "Of very many lines, the cheaper ones, summed by model; the CSV has them all."
        ),
        "uncharged": _usd("What calls cost beyond what they had reserved: zero or less."),
        "rounding": _usd("What the one rounding of each call leaves."),
        "usage_total": _usd("Σ amounts of the lines + `uncharged` + `rounding`."),
        "requests": whole(minimum=0),
        "late": thing({"requests": whole(minimum=0), "amount": _usd()}, "Of it, used in earlier months."),
        "subscription": several(_SAID),
        "rebate": or_null(_any("The volume discount, with how it came about.")),
        "fees": several(_SAID),
        "credits": several(_SAID),
        "refunds": several(_SAID),
        "disputes": several(_SAID),
        "expired": several(_SAID),
        "tax": several(_SAID),
        "opening_balance": or_null(_usd()),
        "closing_balance": or_null(_usd()),
        "due": or_null(_any("Of an invoice: `total` + `carried` = `cents`; with tax, `total_cents`.")),
        "corrects": or_null(_any("Of a credit note: which document, and why.")),
        "total": _usd("Of a month: usage + fees − rebate. Tax is never in it."),
    },
    "A document as it was issued. Amounts are exact dollars as text.",
    without=("version",),
)

LISTED: Final[dict[str, Any]] = {
    "id": ID,
    "kind": "statement",
    "purpose": "month",
    "number": "ST-2026-000041",
    "month": "2026-11",
    "issued_at": "2026-12-01T06:00:00Z",
    "total": "0.030849",
    "due_cents": None,
    "tax_cents": None,
    "status": "issued",
    "due_at": None,
    "paid_at": None,
    "pay_url": None,
    "credited": "0",
    "corrects": None,
}
_SAYS: Final[dict[str, Any]] = {
    "version": 2,
    "kind": "statement",
    "purpose": "month",
    "number": "ST-2026-000041",
    "issued_at": "2026-12-01T06:00:00+00:00",
    "currency": "USD",
    "month": "2026-11",
    "period": {"from": "2026-11-01T00:00:00+00:00", "until": "2026-12-01T00:00:00+00:00"},
    "seller": {"name": "Fairlead", "address": [], "tax_id": "", "email": ""},
    "buyer": {"name": "Acme", "id": "org_1", "email": "", "address": [], "tax_id": "", "reference": ""},
    "plan": "pro",
    "usage": [
        {
            "model": "sandbox/harbor",
            "endpoint": "sandbox-deep:sandbox/harbor",
            "provider": "sandbox-deep",
            "key": "key_PvwCNuo0YbhlA0QD",
            "key_name": "Nightly job",
            "used_in": None,
            "kind": "charged",
            "requests": 12,
            "markup": "0.03",
            "price": 7,
            "window": 0,
            "tier": 0,
            "items": [
                {"kind": "input", "units": 10_475, "unit_price": "2", "base": "0.02095"},
                {"kind": "output", "units": 1_125, "unit_price": "8", "base": "0.009"},
            ],
            "base": "0.02995",
            "markup_amount": "0.0008985",
            "amount": "0.0308485",
        }
    ],
    "others": [],
    "uncharged": "0",
    "rounding": "0.0000005",
    "usage_total": "0.030849",
    "requests": 12,
    "late": {"requests": 0, "amount": "0"},
    "subscription": [],
    "rebate": None,
    "fees": [],
    "credits": [],
    "refunds": [],
    "disputes": [],
    "expired": [],
    "tax": [],
    "opening_balance": "20",
    "closing_balance": "19.969151",
    "due": None,
    "corrects": None,
    "total": "0.030849",
}
READ: Final[dict[str, Any]] = {**LISTED, "credit_notes": [], "document": _SAYS}
RUNNING: Final[dict[str, Any]] = {"id": None, "status": "running", "document": {**_SAYS, "number": None}}

SCHEMAS: Final[dict[str, Schema]] = {
    "InvoiceRef": thing({"id": text(), "number": text()}),
    "InvoiceItem": _ITEM,
    "InvoiceLine": _LINE,
    "InvoiceDocument": _DOCUMENT,
    "ListedInvoice": thing(_STANDS, "A document, and what became of it."),
    "InvoiceList": thing(
        {
            "data": several(ref("ListedInvoice")),
            "next": or_null(text("Ask again with it as `after` for the next page; null on the last.")),
        }
    ),
    "Invoice": thing(
        {**_STANDS, "credit_notes": several(ref("InvoiceRef")), "document": ref("InvoiceDocument")}
    ),
    "InvoiceAnswer": data(ref("Invoice")),
    "RunningInvoice": thing(
        {"id": {"type": "null"}, "status": text(const="running"), "document": ref("InvoiceDocument")}
    ),
    "RunningAnswer": data(ref("RunningInvoice")),
    "Pdf": text("A file.", contentMediaType="application/pdf"),
    "Csv": text("A file.", contentMediaType="text/csv"),
}

_INVOICE: Final = (Parameter("invoice", "path", "The document's id.", text(), True, ID),)
_INVOICES: Final = (
    Parameter("kind", "query", "Of this kind alone.", one_of(KINDS), False, "invoice"),
    Parameter("month", "query", "Of this month alone.", text(pattern=MONTH), False, "2026-11"),
    Parameter("limit", "query", "How many; 50 by default.", whole(minimum=1, maximum=200), False, 50),
    Parameter("after", "query", "The `next` of the page before.", text()),
)
OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "invoices"): Operation(
        TAG,
        "List the documents",
        "Statements, invoices and credit notes, the newest first. Issued ones never change.",
        "InvoiceList",
        {"data": [LISTED], "next": None},
        errors=("invalid_request",),
        parameters=_INVOICES,
    ),
    ("GET", "invoice_current"): Operation(
        TAG,
        "Read the running month",
        "What the document of this month would say now. It has no number, and it changes with every call.",
        "RunningAnswer",
        {"data": RUNNING},
    ),
    ("GET", "invoice"): Operation(
        TAG,
        "Read a document",
        "Every line as it was issued, and what became of it since.",
        "InvoiceAnswer",
        {"data": READ},
        errors=("not_found",),
        parameters=_INVOICE,
    ),
    ("GET", "invoice_pdf"): Operation(
        TAG,
        "Save a document as PDF",
        "The same bytes for ever.",
        "Pdf",
        "%PDF-1.7 …",
        errors=("not_found",),
        parameters=_INVOICE,
        media="application/pdf",
    ),
    ("GET", "invoice_csv"): Operation(
        TAG,
        "Save a document as CSV",
        "A row for each line and kind of units, for each mark-up, and for what else there is. The column "
        "`amount_usd` sums to the document's total.",
        "Csv",
        "document,month,part,model,…",
        errors=("not_found",),
        parameters=_INVOICE,
        media="text/csv; charset=utf-8",
    ),
}
