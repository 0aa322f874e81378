"""The first page: what it is, how it does right now, what it costs."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts import access, examples


@require_safe
def landing(request: HttpRequest) -> HttpResponse:
    return render(request, "site/landing.html", {"examples": examples.first_call(access.api_base())})
