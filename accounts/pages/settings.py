"""One's own settings: what one is called, and where one is signed in."""

from __future__ import annotations

from typing import Any, cast

from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from accounts import signup
from accounts.core import devices
from accounts.forms import ProfileForm
from accounts.models import User
from accounts.pages.form import form_page, show


@form_page
@login_required
def profile(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    form = ProfileForm(request.POST if request.method == "POST" else None, initial={"name": user.name})
    if form.is_bound and form.is_valid():
        signup.rename_person(user, form.cleaned_data["name"])
        messages.success(request, "Your profile is saved.")
        return redirect("accounts:settings")
    return show(request, "accounts/profile.html", form)


@form_page
@login_required
def sessions(request: HttpRequest) -> HttpResponse:
    """GET shows them; POST ends all but this one."""
    rows = UserSession.objects.purge_and_list(request.user)
    here = request.session.session_key
    if request.method == "POST":
        others = [row for row in rows if row.session_key != here]
        for row in others:
            row.end()
        messages.success(request, "You are signed in here alone now.")
        return redirect("accounts:sessions")
    rows.sort(key=lambda row: (row.session_key != here, -row.last_seen_at.timestamp()))
    shown = [_session(row, row.session_key == here) for row in rows]
    return render(request, "accounts/sessions.html", {"sessions": shown})


@require_POST
@login_required
def session_end(request: HttpRequest, session: int) -> HttpResponse:
    row = get_object_or_404(UserSession, pk=session, user=request.user)
    row.end()
    messages.success(request, f"{devices.name(row.user_agent)} is signed out.")
    return redirect("accounts:sessions")


def _session(row: UserSession, here: bool) -> dict[str, Any]:
    return {
        "row": row,
        "here": here,
        "device": devices.name(row.user_agent),
        "mobile": devices.is_mobile(row.user_agent),
    }
