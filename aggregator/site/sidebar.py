"""The sidebar of the admin: what there is to look at, in the order in which operators need it."""

from __future__ import annotations

from typing import Any, Final

from django.apps import apps
from django.http import HttpRequest
from django.urls import reverse

_PAGES: Final = (
    ("dashboard", "Today", "admin:index", ""),
    ("monitor_heart", "Provider health", "operators-health", "routing.view_endpoint"),
    ("trending_up", "Margin", "operators-margin", "billing.view_monthclose"),
)
_ROWS: Final = {
    "Customers": (
        ("groups", "accounts.organization"),
        ("person", "accounts.user"),
        ("account_balance_wallet", "billing.wallet"),
        ("mail", "billing.inquiry"),
        ("key", "accounts.key"),
        ("speed", "billing.budget"),
        ("notification_important", "billing.budgetalert"),
        ("history", "accounts.auditentry"),
    ),
    "Catalog": (
        ("rule", "routing.priceproposal"),
        ("dns", "routing.provider"),
        ("deployed_code", "routing.model"),
        ("lan", "routing.endpoint"),
        ("sell", "billing.price"),
        ("rss_feed", "routing.pricesource"),
    ),
    "Terms": (
        ("layers", "billing.plan"),
        ("handshake", "billing.agreedterms"),
        ("calendar_month", "billing.monthclose"),
    ),
    "Ledger": (
        ("bolt", "billing.generation"),
        ("receipt_long", "billing.posting"),
        ("list", "billing.entry"),
        ("savings", "billing.creditlot"),
    ),
    "Payments": (
        ("add_card", "billing.topup"),
        ("autorenew", "billing.autotopup"),
        ("event_repeat", "billing.subscription"),
        ("request_quote", "billing.stripeinvoice"),
        ("undo", "billing.refund"),
        ("gavel", "billing.dispute"),
        ("gpp_maybe", "billing.fraudwarning"),
        ("webhook", "billing.stripeevent"),
    ),
    "Running": (
        ("notifications", "billing.alert"),
        ("outgoing_mail", "billing.letter"),
        ("schedule", "billing.jobrun"),
    ),
}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Only what this operator may look at."""
    may = request.user.has_perm
    pages = [_item(icon, words, to) for icon, words, to, needs in _PAGES if not needs or may(needs)]
    groups: list[dict[str, Any]] = [{"title": "", "items": pages}]
    for title, rows in _ROWS.items():
        items = [_rows(icon, name) for icon, name in rows if may(name.replace(".", ".view_"))]
        if items:
            groups.append({"title": title, "separator": True, "collapsible": False, "items": items})
    return groups


def _rows(icon: str, name: str) -> dict[str, Any]:
    words = str(apps.get_model(name)._meta.verbose_name_plural)
    return _item(icon, words[:1].upper() + words[1:], f"admin:{name.replace('.', '_')}_changelist")


def _item(icon: str, words: str, target: str) -> dict[str, Any]:
    return {"icon": icon, "title": words, "link": reverse(target)}
