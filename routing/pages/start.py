"""From signing in to a first answer: a key, a call and what it cost, on one page that may be left."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts import access, examples, keys
from accounts.access import MemberRequest
from accounts.core import roles
from billing.core import generation
from routing import first_steps, snapshot
from routing.core import picture

_SKIPPED: Final = "start_skipped"
_HOMES: Final = ("routing:overview", "accounts:keys")
_NAME: Final = "First key"
_SOON: Final = 90
_MOST_LOOKS: Final = 600
"""The page looks for the call every second at first, and gives up in the end."""


@require_safe
@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """Where one lands after signing in: on the first steps while there is no call, else in the app."""
    held = access.membership(request)
    if held is None and getattr(request.user, "is_staff", False):
        return redirect("admin:index")
    wanted = held is not None and held.may(roles.KEYS_OWN) and not request.session.get(_SKIPPED)
    if held is not None and wanted and not first_steps.has_called(held.organization_id):
        return redirect("routing:start")
    return redirect(_home())


@require_safe
@never_cache
@access.member(roles.KEYS_OWN)
def start(request: MemberRequest) -> HttpResponse:
    return render(request, "routing/start.html", _context(request))


@require_POST
@never_cache
@access.member(roles.KEYS_OWN)
def start_key(request: MemberRequest) -> HttpResponse:
    """Make a key and show its text, this once."""
    _, text = keys.create(request.membership.organization, name=_NAME, by=request.user)
    htmx = request.htmx  # type: ignore[attr-defined]
    template = "routing/_start.html" if htmx else "routing/start.html"
    return render(request, template, _context(request, text))


@require_safe
@never_cache
@access.member(roles.KEYS_OWN)
def start_seen(request: MemberRequest) -> HttpResponse:
    """The third step by itself, as the page asks for it until there is a call."""
    if not request.htmx:  # type: ignore[attr-defined]
        return redirect("routing:start")
    looks = request.GET.get("n", "")
    number = int(looks) if looks.isdigit() and len(looks) < 5 else 0
    return render(request, "routing/_start_seen.html", _seen(request, number + 1))


@require_POST
@access.member(roles.KEYS_OWN)
def start_skip(request: MemberRequest) -> HttpResponse:
    request.session[_SKIPPED] = True
    return redirect(_home())


def _home() -> str:
    """The first of these pages that there is."""
    for name in _HOMES[:-1]:
        try:
            return reverse(name)
        except NoReverseMatch:
            continue
    return reverse(_HOMES[-1])


def _context(request: MemberRequest, text: str = "") -> dict[str, Any]:
    held = request.membership
    means = first_steps.means(held.organization_id, snapshot.shown)
    rows = access.keys_of(held).filter(scope=roles.INFERENCE).prefetch_related("secrets")
    key = rows.order_by("-pk").first()
    shown = key.secrets.order_by("-pk").first() if key is not None else None
    return {
        "means": means,
        "key": key,
        "shown": shown,
        "text": text,
        "examples": examples.first_call(access.api_base(), key=text, model=means.model or "auto"),
        **_seen(request),
    }


def _seen(request: MemberRequest, looks: int = 0) -> dict[str, Any]:
    held = request.membership
    key_ids = None if held.may(roles.ACTIVITY_ALL) else [key.id for key in access.keys_seen(held)]
    call = first_steps.latest(held.organization_id, key_ids=key_ids)
    done = call is not None and call.status == generation.COMPLETED
    return {
        "call": call,
        "called": done,
        "why": "" if call is None else picture.why(call.decision, status=call.status),
        "looks": looks,
        "every": "" if done or looks > _MOST_LOOKS else "1s" if looks < _SOON else "5s",
    }
