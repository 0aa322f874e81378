"""What answers outside the data plane tell whoever receives them: what may run, and what may be kept.

The admin's content security policy is its own, because its widgets evaluate expressions; nobody else's.
"""

from __future__ import annotations

from collections.abc import Callable

from csp.decorators import csp_replace
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse

from aggregator.lib.errors import Refusal

GetResponse = Callable[[HttpRequest], HttpResponse]


def admin_policy(get_response: GetResponse) -> GetResponse:
    """Middleware: `ADMIN_CONTENT_SECURITY_POLICY` under `/admin/`, the general policy everywhere else."""
    under_admin = csp_replace(settings.ADMIN_CONTENT_SECURITY_POLICY)(get_response)

    def respond(request: HttpRequest) -> HttpResponse:
        return (under_admin if request.path.startswith("/admin/") else get_response)(request)

    return respond


def no_store(get_response: GetResponse) -> GetResponse:
    """Middleware: an answer that does not say how long it may be kept is not kept, neither here nor there."""

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return respond


def no_null(get_response: GetResponse) -> GetResponse:
    """Middleware: an address with a null character names nothing; PostgreSQL refuses to be asked for it."""

    def respond(request: HttpRequest) -> HttpResponse:
        if "\0" not in request.path and "%00" not in request.META.get("QUERY_STRING", ""):
            return get_response(request)
        refusal = Refusal("invalid_request", "The address holds a null character.", status=400)
        if request.path.startswith(("/api/", "/v1/")):
            return JsonResponse(refusal.as_body(), status=refusal.status)
        return HttpResponse(refusal.message, status=refusal.status, content_type="text/plain")

    return respond
