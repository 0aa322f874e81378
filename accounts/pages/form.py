"""A page with a form: which methods it takes, and what it answers to what was typed."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

form_page = require_http_methods(["GET", "HEAD", "POST"])


def show(request: HttpRequest, template: str, form: Any, **context: Any) -> HttpResponse:
    """The page with the form as it was filled in: 422 where something typed cannot be taken."""
    status = 422 if form.is_bound and not form.is_valid() else 200
    return render(request, template, {"form": form, **context}, status=status)
