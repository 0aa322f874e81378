"""`GET /invoices`, `/invoices/{id}`, its PDF and CSV, and the running month: for a management key."""

from __future__ import annotations

import re
import uuid
from datetime import date
from typing import Any, Final
from urllib.parse import parse_qs

from django.http import Http404, HttpResponseBase
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import Organization
from aggregator.lib import cursors
from aggregator.lib.errors import Refusal
from aggregator.rest import caller
from billing.core.money import usd
from billing.documents import files, kept, running
from billing.models import Document

_PAGE: Final = 50
_MOST: Final = 200
_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)


class Invoices(APIView):
    """Every document there is, the newest first."""

    def get(self, request: Request) -> Response:
        asked = _asked(request)
        rows = kept.listed(caller(request).organization_id)
        if "kind" in asked:
            rows = rows.filter(kind=_kind(asked["kind"]))
        if "month" in asked:
            rows = rows.filter(month=_month(asked["month"]))
        found = cursors.listed(
            rows, asked, sorts={"issued": "issued_at"}, default="-issued", size=_size(asked)
        )
        more = parse_qs(found.more.removeprefix("?")).get("after", [None])[0]
        return Response({"data": [_listed(row) for row in found.rows], "next": more})


class CurrentInvoice(APIView):
    """The month that is not over, as it stands now."""

    def get(self, request: Request) -> Response:
        organization = Organization.objects.get(pk=caller(request).organization_id)
        return Response(
            {"data": {"id": None, "status": "running", "document": running.statement(organization)}}
        )


class Invoice(APIView):
    """One document, and what became of it."""

    def get(self, request: Request, invoice: str) -> Response:
        document = _found(request, invoice)
        said = {
            **_listed(document),
            "credit_notes": [
                {"id": str(note.pk), "number": note.number} for note in kept.corrections(document)
            ],
            "document": document.content,
        }
        return Response({"data": said})


class _AnyForm(BaseContentNegotiation):
    """A file is what it is, whatever `Accept` says; errors are JSON."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class InvoicePdf(APIView):
    content_negotiation_class = _AnyForm

    def get(self, request: Request, invoice: str) -> HttpResponseBase:
        document = _found(request, invoice)
        return files.saved(document, "pdf")


class InvoiceCsv(APIView):
    content_negotiation_class = _AnyForm

    def get(self, request: Request, invoice: str) -> HttpResponseBase:
        document = _found(request, invoice)
        return files.saved(document, "csv")


def _found(request: Request, invoice: str) -> Document:
    try:
        id = uuid.UUID(invoice)
    except ValueError:
        raise Http404 from None
    document = kept.find(caller(request).organization_id, id)
    if document is None:
        raise Http404
    return document


def _listed(document: Document) -> dict[str, Any]:
    """What a document is, and where it stands. Amounts are exact dollars as text."""
    now = kept.stands(document)
    corrects = document.corrects
    return {
        "id": str(document.pk),
        "kind": document.kind,
        "purpose": document.purpose,
        "number": document.number,
        "month": None if document.month is None else f"{document.month:%Y-%m}",
        "issued_at": document.issued_at,
        "total": usd(document.total_nanos),
        "due_cents": None if document.cents is None else document.cents + document.tax_cents,
        "tax_cents": None if document.cents is None else document.tax_cents,
        "status": now.status,
        "due_at": now.due_at,
        "paid_at": now.paid_at,
        "pay_url": now.pay_url or None,
        "credited": usd(now.credited_nanos),
        "corrects": None if corrects is None else {"id": str(corrects.pk), "number": corrects.number},
    }


def _asked(request: Request) -> dict[str, str]:
    for name in request.query_params:
        if name not in ("kind", "month", "after", "limit"):
            raise Refusal("invalid_request", f"{name}: unknown parameter", param=name)
    return {name: str(value) for name, value in request.query_params.items()}


def _kind(text: str) -> str:
    if text not in Document.Kind.values:
        raise Refusal("invalid_request", f"kind: one of {', '.join(Document.Kind.values)}", param="kind")
    return text


def _month(text: str) -> date:
    found = _MONTH.fullmatch(text)
    if found is None or found[1] == "0000":
        raise Refusal("invalid_request", "month: such as 2026-11", param="month")
    return date(int(found[1]), int(found[2]), 1)


def _size(asked: dict[str, str]) -> int:
    text = asked.get("limit", str(_PAGE))
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 0 < int(text) <= _MOST):
        raise Refusal("invalid_request", f"limit: from 1 to {_MOST}", param="limit")
    return int(text)
