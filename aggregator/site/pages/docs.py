"""How to use it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts import access, examples


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    return render(request, "site/docs.html", {"examples": examples.first_call(access.api_base())})
