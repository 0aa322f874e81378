"""Statements, invoices and credit notes: their list, each to be read and saved, and the running month."""

from __future__ import annotations

import uuid
from typing import Any, Final

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.access import MemberRequest
from aggregator.lib import cursors
from aggregator.lib.errors import Refusal
from billing.documents import files, kept, layout, running, sums
from billing.models import BillingProfile, Document
from billing.pages import shell

_PAGE: Final = 25
_MOST_LINES: Final = 200
"""Of usage, on a page; the files have them all."""
_KINDS: Final = (
    ("", "All"),
    (Document.Kind.INVOICE.value, "Invoices"),
    (Document.Kind.STATEMENT.value, "Statements"),
    (Document.Kind.CREDIT_NOTE.value, "Credit notes"),
)


@require_safe
@never_cache
@shell.payer
def documents(request: MemberRequest) -> HttpResponse:
    organization = request.membership.organization
    kind = request.GET.get("kind", "")
    rows = kept.listed(organization)
    if kind in Document.Kind.values:
        rows = rows.filter(kind=kind)
    else:
        kind = ""
    found = cursors.listed(
        rows,
        request.GET,
        sorts={"issued": "issued_at"},
        default="-issued",
        size=_PAGE,
        keep={"kind": kind},
    )
    context = {
        "list": found,
        "rows": [(row, kept.stands(row)) for row in found.rows],
        "kind": kind,
        "kinds": _KINDS,
        "running": running.heading(organization),
        "profile": BillingProfile.objects.of(organization).first(),
    }
    return render(request, "billing/documents.html", context)


@require_safe
@never_cache
@shell.payer
def document(request: MemberRequest, document_id: uuid.UUID) -> HttpResponse:
    found = _found(request, document_id)
    context = {
        **_shown(found.content),
        "document": found,
        "stands": kept.stands(found),
        "corrections": list(kept.corrections(found)),
    }
    return render(request, "billing/document.html", context)


@require_safe
@never_cache
@shell.payer
def running_month(request: MemberRequest) -> HttpResponse:
    said = running.statement(request.membership.organization, most=_MOST_LINES)
    return render(request, "billing/document.html", _shown(said))


@require_safe
@never_cache
@shell.payer
def document_pdf(request: MemberRequest, document_id: uuid.UUID) -> HttpResponse:
    try:
        return files.saved(_found(request, document_id), "pdf")
    except Refusal as refusal:
        messages.error(request, refusal.message)
        return redirect("billing:document", document_id)


@require_safe
@never_cache
@shell.payer
def document_csv(request: MemberRequest, document_id: uuid.UUID) -> HttpResponse:
    return files.saved(_found(request, document_id), "csv")


@require_safe
@never_cache
@shell.payer
def document_json(request: MemberRequest, document_id: uuid.UUID) -> HttpResponse:
    return files.saved(_found(request, document_id), "json")


def _found(request: MemberRequest, id: uuid.UUID) -> Document:
    found = kept.find(request.membership.organization, id)
    if found is None:
        raise Http404
    return found


def _shown(content: sums.Content) -> dict[str, Any]:
    return {"content": content, "layout": layout.of(content, most_lines=_MOST_LINES)}
