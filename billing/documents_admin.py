"""What operators do with an issued document: correct it by a credit note; with a reason, audited."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.models import User
from aggregator.lib import ids
from billing.core.money import show_usd
from billing.documents import credit_notes, files
from billing.forms import Dollars
from billing.models import Document


class CreditNoteForm(forms.Form):
    """`once` names the credit note, so that it is one however often the form is sent."""

    nanos = Dollars(label="Amount without tax, $")
    reason = forms.CharField(
        label="Reason: the customer reads it",
        max_length=credit_notes.MOST_REASON,
        widget=UnfoldAdminTextInputWidget,
    )
    once = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["nanos"].widget = UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"})


class CreditNoteAction:
    """A page on a document, for those who may change documents."""

    actions_detail: ClassVar[tuple[str, ...]] = ("credit_note", "save_pdf")

    def has_correct_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("billing.change_document")

    def has_reading_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("billing.view_document")

    @action(description="PDF", url_path="pdf", permissions=["reading"])
    def save_pdf(self, request: HttpRequest, object_id: str) -> HttpResponse:
        document = get_object_or_404(Document.unscoped.defer("pdf"), pk=object_id)
        return files.saved(document, "pdf")

    @action(description="Credit note", url_path="credit-note", permissions=["correct"])
    def credit_note(self, request: HttpRequest, object_id: str) -> HttpResponse:
        document = get_object_or_404(Document.unscoped.select_related("organization"), pk=object_id)
        form = CreditNoteForm(request.POST or None, initial={"once": ids.uuid7()})
        if form.is_valid():
            said = form.cleaned_data
            try:
                note = credit_notes.issue(
                    document.number,
                    said["nanos"],
                    reason=said["reason"],
                    by=cast(User, request.user),
                    once=said["once"],
                )
            except ValueError as error:
                form.add_error(None, str(error))
            else:
                told = f"{note.number} corrects {document.number} by {show_usd(note.total_nanos)}."
                self.log_change(request, document, told)  # type: ignore[attr-defined]
                messages.success(request, told)
                return redirect(reverse("admin:billing_document_change", args=[note.pk]))
        site: Any = self.admin_site  # type: ignore[attr-defined]
        left = show_usd(credit_notes.left_of(document))
        context = {
            **site.each_context(request),
            "title": f"Credit note for {document.number} of {document.organization}",
            "says": f"At most {left}. It goes to the wallet with its part of the tax; the document stays.",
            "form": form,
            "opts": Document._meta,
            "back": reverse("admin:billing_document_change", args=[document.pk]),
        }
        return TemplateResponse(request, "billing/change_wallet.html", context)
