"""What operators look at beside the rows: the admin's first page, the health of endpoints, the margin."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from aggregator.lib import clock, kv
from billing import alerts, earnings, operations, rebates
from billing.core.money import show_usd
from billing.earnings import Earning
from routing import figures, proposals, roster, showcase, snapshot
from routing.roster import Entry

_STATES = {"failing": "Failing", "resting": "Resting", "degraded": "Degraded", "normal": "Normal"}
_COLUMNS = ("Requests", "Charged", "Providers' price", "Losses", "Discounts", "Margin")
_NO_FIGURE = "–"


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """For the template of the admin's first page: what waits for somebody, and how today goes."""
    may = request.user.has_perm
    cards: list[dict[str, Any]] = []
    if may("billing.view_alert"):
        cards.append(
            _card("Open alerts", len(alerts.open_alerts()), "billing_alert", "?resolved_at__isempty=1")
        )
    if may("routing.view_priceproposal"):
        cards.append(
            _card("Prices to approve", proposals.waiting(), "routing_priceproposal", "?state__exact=waiting")
        )
    if may("billing.view_wallet"):
        found = operations.standing(settings.SPOOL_DIR)
        cards += [
            _card("Frozen organizations", found.frozen, "billing_wallet", "?frozen_because__gt="),
            _card("Quarantined records", found.quarantined, "billing_generation", ""),
            _card("Inquiries not mailed", found.inquiries, "billing_inquiry", ""),
        ]
        now = earnings.today()
        context |= {
            "today": [
                ("Calls today", f"{now.requests:,}"),
                ("Charged", show_usd(now.charged_nanos)),
                ("Providers' price", show_usd(now.base_nanos)),
                ("Losses", show_usd(now.loss_nanos)),
                ("Margin of usage", show_usd(now.margin_nanos)),
            ],
            "queues": _table(
                ("Queue", "Waiting", "Oldest, seconds"),
                [(each.name, f"{each.count:,}", f"{each.oldest_seconds:,}") for each in found.queues],
            ),
        }
    if may("billing.view_alert"):
        rows = [(_link(each, each.kind), each.says, f"{each.count}") for each in alerts.open_alerts()[:10]]
        context["alerts"] = _table(("Alert", "What it says", "Times"), rows)
    return {**context, "title": "Today", "cards": cards}


@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """Every endpoint that can be called, the worst first."""
    _need(request, "routing.view_endpoint")
    try:
        healths = figures.healths()
    except kv.Failed:
        healths = {}
    entries = roster.of(snapshot.read(), figures.published(), healths)
    counts = {words: sum(e.condition.state == state for e in entries) for state, words in _STATES.items()}
    heads = (
        "Endpoint",
        "State",
        "Up, 30 min",
        "Up, a day",
        "First token",
        "Tokens/s",
        "Attempts, 5 min",
        "Last probe",
    )
    context = {
        "says": "What all gateways together have seen, and what probes say where traffic is thin. Circuits "
        "are each gateway's own: an endpoint that fails for everybody is put last by all.",
        "cards": [{"label": words, "value": count} for words, count in counts.items()],
        "tables": [(None, _table(heads, [_row(entry) for entry in entries]))],
    }
    return _page(request, "Provider health", context)


@require_safe
def margin(request: HttpRequest) -> HttpResponse:
    """By month; and of one month, `?month=2026-11`, by plan and by provider."""
    _need(request, "billing.view_monthclose")
    month = _month(request.GET.get("month", ""))
    months = [
        (
            format_html('<a class="underline" href="?month={0:%Y-%m}">{0:%Y-%m}</a>', found.month),
            f"{found.organizations:,}",
            *(show_usd(nanos) for nanos in found.amounts.values()),
        )
        for found in rebates.margins()
    ]
    heads = ("Month", "Organizations", "Charged", "Base", "Losses", "Subscriptions", "Stripe's fees")
    context = {
        "says": "Closed months as they were closed; below, the usage of one month as it is posted now.",
        "cards": [],
        "tables": [
            ("Closed months", _table((*heads, "Rebates", "Margin"), months)),
            (f"{month:%B %Y} by plan", _earned("Plan", earnings.by_plan(month))),
            (f"{month:%B %Y} by provider", _earned("Provider", earnings.by_provider(month))),
        ],
    }
    return _page(request, "Margin", context)


def _page(request: HttpRequest, title: str, context: dict[str, Any]) -> HttpResponse:
    whole = {**admin.site.each_context(request), "title": title, **context}
    return TemplateResponse(request, "site/operators.html", whole)


def _need(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


def _card(label: str, count: int, page: str, query: str) -> dict[str, Any]:
    href = f"{reverse(f'admin:{page}_changelist')}{query}"
    return {"label": label, "value": f"{count:,}", "href": href, "waits": count > 0}


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    return {"headers": list(heads), "rows": [list(row) for row in rows]}


def _earned(what: str, rows: Sequence[Earning]) -> dict[str, Any]:
    return _table(
        (what, *_COLUMNS),
        [
            (
                row.name or "none",
                f"{row.requests:,}",
                *(show_usd(n) for n in (row.charged_nanos, row.base_nanos, row.loss_nanos)),
                *(show_usd(n) for n in (row.rebate_nanos, row.margin_nanos)),
            )
            for row in rows
        ],
    )


def _row(entry: Entry) -> tuple[Any, ...]:
    seen = entry.vitals
    first, pace = seen.ttft_seconds, seen.tokens_per_second
    return (
        format_html('<a class="underline" href="{}">{}</a>', _endpoint(entry.slug), entry.slug),
        entry.condition.words,
        _percent(seen.uptime_30m),
        _percent(seen.uptime_1d),
        _NO_FIGURE if first is None else f"{first.p50:.2f} s",
        _NO_FIGURE if pace is None else f"{pace.p50:,.0f}",
        f"{seen.attempts:,}",
        "none" if entry.probed_at is None else f"{entry.probed_at:%H:%M:%S} UTC, {entry.row:+d} in a row",
    )


def _percent(share: float | None) -> str:
    return _NO_FIGURE if share is None else showcase.percent(share)


def _endpoint(slug: str) -> str:
    return f"{reverse('admin:routing_endpoint_changelist')}?q={slug}"


def _link(row: Any, words: str) -> SafeString:
    name = f"admin:{row._meta.app_label}_{row._meta.model_name}_change"
    return format_html('<a class="underline" href="{}">{}</a>', reverse(name, args=[row.pk]), words)


def _month(text: str) -> date:
    """The month that was asked for, or the running one."""
    try:
        return datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007
    except ValueError:
        return clock.now().date().replace(day=1)
