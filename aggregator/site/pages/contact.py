"""Writing to us: who asks for terms of their own, or for anything else."""

from __future__ import annotations

from typing import Any

from allauth.core import ratelimit
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from accounts import access
from accounts.pages.form import form_page, show
from aggregator.site.forms import Contact
from billing import inquiries

_OFTEN = "That is the third message within an hour, or too many came from your network. Please wait a while."


@form_page
def contact(request: HttpRequest) -> HttpResponse:
    held = access.membership(request)
    if request.method != "POST":
        return show(request, "site/contact.html", Contact(initial=_known(request)))
    form = Contact(request.POST)
    if not form.is_valid():
        return show(request, "site/contact.html", form)
    said = dict(form.cleaned_data)
    if said.pop("website"):
        return redirect("site:thanks")
    if not ratelimit.consume(request, action="contact", key=said["email"].lower()):
        form.add_error(None, _OFTEN)
        return render(request, "site/contact.html", {"form": form}, status=429)
    inquiries.ask(**said, organization_id=held.organization_id if held else None)
    return redirect("site:thanks")


@require_safe
def thanks(request: HttpRequest) -> HttpResponse:
    return render(request, "site/thanks.html")


def _known(request: HttpRequest) -> dict[str, Any]:
    held = access.membership(request)
    if held is None:
        return {}
    return {"email": held.user.email, "company": held.organization.name}
