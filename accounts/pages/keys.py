"""Keys: the list, making one, changing, rotating and deleting it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from django.contrib import messages
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Coalesce, Lower
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import access, examples, keys
from accounts.access import MemberRequest
from accounts.core import limits, roles
from accounts.forms import KeyForm, RotateForm
from accounts.models import Key
from accounts.pages.form import form_page, show
from aggregator.lib import clock, cursors
from aggregator.lib.errors import Refusal

_PAGE: Final = 50
_SORTS: Final = {"name": "by_name", "created": "created_at", "used": "by_use", "limit": "by_limit"}
_STATES: Final = {"active": "Active", "disabled": "Disabled", "expired": "Expired"}
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_TEXT: Final = 100
_LAST: Final = 4
"""Characters at a key's end that the list shows, and finds it by."""
_WINDOW_WORDS: Final = {"total": "in total", "day": "a day", "week": "a week", "month": "a month"}


@require_GET
@access.member(roles.KEYS_OWN)
def key_list(request: MemberRequest) -> HttpResponse:
    text, state = request.GET.get("q", "").strip()[:_MOST_TEXT], request.GET.get("state", "")
    state = state if state in _STATES else ""
    mine = access.keys_of(request.membership)
    rows = _found(mine, text, state).select_related("created_by").prefetch_related("secrets")
    keep = {"q": text, "state": state}
    listed = cursors.listed(rows, request.GET, sorts=_SORTS, default="-created", size=_PAGE, keep=keep)
    return render(
        request,
        "accounts/keys.html",
        {
            "list": listed,
            "rows": [_row(key) for key in listed.rows],
            "any": bool(listed.rows) or mine.exists(),
            "asked": keep,
            "states": _STATES.items(),
            "curl": examples.curl(access.api_base(), "$FAIRLEAD_API_KEY"),
        },
    )


def _found(rows: QuerySet[Key], text: str, state: str) -> QuerySet[Key]:
    """The keys that fit, with columns to sort by that are never null: no limit is the highest."""
    now = clock.now()
    if text:
        by_text = Q(secrets__last4=text[-4:]) if len(text) >= _LAST else Q()
        fits = Q(name__icontains=text) | Q(public_id=text) | Q(created_by__email__icontains=text)
        rows = rows.filter(pk__in=rows.filter(fits | by_text if by_text else fits).values("pk"))
    if state == "expired":
        rows = rows.filter(expires_at__lte=now)
    elif state == "active":
        rows = rows.filter(Q(expires_at=None) | Q(expires_at__gt=now), state=Key.State.ACTIVE)
    elif state == "disabled":
        rows = rows.filter(state=Key.State.DISABLED)
    return rows.annotate(
        by_name=Lower("name"),
        by_use=Coalesce("last_used_at", Value(_NEVER)),
        by_limit=Coalesce("limit_nanos", Value(limits.MOST_NANOS + 1)),
    )


@form_page
@never_cache
@access.member(roles.KEYS_OWN)
def key_new(request: MemberRequest) -> HttpResponse:
    form = KeyForm(request.POST or None, membership=request.membership)
    if request.method == "POST" and form.is_valid():
        try:
            key, text = keys.create(request.membership.organization, by=request.user, **form.values())
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            return _show_once(request, key, text, rotated=False)
    return show(request, "accounts/key_new.html", form)


@form_page
@access.member(roles.KEYS_OWN)
def key_edit(request: MemberRequest, key: str) -> HttpResponse:
    row = _key(request, key)
    form = KeyForm(request.POST or None, membership=request.membership, key=row)
    if request.method == "POST" and form.is_valid():
        try:
            keys.update(row, by=request.user, **form.values(only_changed=True))
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, f"“{row.name}” is changed. It is in force already.")
            return redirect("accounts:keys")
    return show(request, "accounts/key_edit.html", form, key=row)


@form_page
@never_cache
@access.member(roles.KEYS_OWN)
def key_rotate(request: MemberRequest, key: str) -> HttpResponse:
    row = _key(request, key)
    form = RotateForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        text = keys.rotate(row, by=request.user, overlap=form.cleaned_data["overlap"])
        return _show_once(request, row, text, rotated=True)
    return show(request, "accounts/key_rotate.html", form, key=row)


@require_POST
@access.member(roles.KEYS_OWN)
def key_disable(request: MemberRequest, key: str) -> HttpResponse:
    row = keys.disable(_key(request, key), by=request.user)
    messages.success(request, f"“{row.name}” is disabled. Calls with it are refused from now on.")
    return redirect("accounts:keys")


@require_POST
@access.member(roles.KEYS_OWN)
def key_enable(request: MemberRequest, key: str) -> HttpResponse:
    row = keys.enable(_key(request, key), by=request.user)
    messages.success(request, f"“{row.name}” works again.")
    return redirect("accounts:keys")


@form_page
@access.member(roles.KEYS_OWN)
def key_delete(request: MemberRequest, key: str) -> HttpResponse:
    row = _key(request, key)
    if request.method == "POST":
        keys.delete(row, by=request.user)
        messages.success(request, f"“{row.name}” is deleted.")
        return redirect("accounts:keys")
    return render(request, "accounts/key_delete.html", {"key": row})


def _key(request: MemberRequest, public_id: str) -> Key:
    return get_object_or_404(access.keys_of(request.membership), public_id=public_id)


def _show_once(request: HttpRequest, key: Key, text: str, *, rotated: bool) -> HttpResponse:
    """The one answer that holds the text of a key: not stored by the browser, nor in its history."""
    answer = render(
        request,
        "accounts/key_shown.html",
        {
            "key": key,
            "text": text,
            "rotated": rotated,
            "management": key.scope == roles.MANAGEMENT,
            "curl": examples.curl_of(key.scope, access.api_base(), text),
        },
    )
    answer["Cache-Control"] = "no-store"
    answer["HX-Replace-Url"] = "/keys"
    return answer


def _row(key: Key) -> dict[str, Any]:
    """A key as the list shows it: words that a person can act on."""
    now = clock.now()
    secrets = sorted(key.secrets.all(), key=lambda secret: secret.pk, reverse=True)
    older = [secret for secret in secrets[1:] if secret.expires_at and secret.expires_at > now]
    expired = key.expires_at is not None and key.expires_at <= now
    spend = None
    if key.limit_nanos is not None:
        spend = f"${_cents(limits.usd(key.limit_nanos))} {_WINDOW_WORDS[key.limit_window]}"
    return {
        "key": key,
        "shown": str(secrets[0]) if secrets else "",
        "older_until": max((secret.expires_at for secret in older if secret.expires_at), default=None),
        "state": "expired" if expired and key.state == Key.State.ACTIVE else key.state,
        "spend": spend,
        "management": key.scope == roles.MANAGEMENT,
    }


def _cents(usd: str) -> str:
    """`2.5` → `2.50`; amounts that are finer keep every digit that they have."""
    whole, _, rest = usd.partition(".")
    return f"{int(whole):,}.{rest.ljust(2, '0')}" if rest else f"{int(whole):,}"
