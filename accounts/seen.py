"""When somebody was last here: of a session and of a membership, written once in some minutes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from aggregator.lib import clock

EVERY: Final = timedelta(minutes=5)


def note(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: remember that a signed-in person's session is in use, and from where."""

    def respond(request: HttpRequest) -> HttpResponse:
        if settings.SESSION_COOKIE_NAME in request.COOKIES and request.user.is_authenticated:
            rows = UserSession.objects.filter(session_key=request.session.session_key)
            seen_at = rows.values_list("last_seen_at", flat=True).first()
            if seen_at is None or seen_at < clock.now() - EVERY:
                UserSession.objects.create_from_request(request)
        return get_response(request)

    return respond
