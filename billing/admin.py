"""What operators may look at. Money is changed by verbs and commands only, so everything is read-only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin, TabularInline

from billing import inbox, rebates
from billing.models import (
    AgreedTerms,
    Entry,
    Generation,
    MonthClose,
    Plan,
    Posting,
    Price,
    StripeEvent,
    Wallet,
)
from billing.money import show_usd
from billing.terms_admin import TermsActions


class ReadOnly(ModelAdmin):
    list_per_page = 50
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class EntryLines(TabularInline):
    model = Entry
    extra = 0
    can_delete = False
    fields = ("account", "usd")
    readonly_fields = ("account", "usd")

    @admin.display(description="amount")
    def usd(self, entry: Entry) -> str:
        return show_usd(entry.nanos)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Wallet)
class WalletAdmin(TermsActions, ReadOnly):
    list_display = (
        "organization",
        "balance",
        "plan",
        "markup",
        "credit_limit",
        "frozen_because",
        "opened_at",
    )
    list_filter = ("plan", "frozen_because")
    search_fields = ("organization__slug", "organization__name", "organization__public_id")
    list_select_related = ("organization",)

    @admin.display(ordering="balance_nanos")
    def balance(self, wallet: Wallet) -> str:
        return show_usd(wallet.balance_nanos)

    @admin.display(ordering="credit_limit_nanos")
    def credit_limit(self, wallet: Wallet) -> str:
        return show_usd(wallet.credit_limit_nanos) if wallet.credit_limit_nanos else "none"


@admin.register(AgreedTerms)
class AgreedTermsAdmin(ReadOnly):
    list_display = ("organization", "version", "plan", "markup", "volume_discount", "starts_at", "agreed_by")
    list_filter = ("plan", "postpaid")
    search_fields = ("organization__slug", "organization__name", "organization__public_id")
    list_select_related = ("organization",)
    ordering = ("-id",)


@admin.register(MonthClose)
class MonthCloseAdmin(ReadOnly):
    list_display = ("month", "organization", "charged", "base", "loss", "rebate", "margin", "closed_at")
    search_fields = ("organization__slug", "organization__public_id")
    list_select_related = ("organization",)
    ordering = ("-month", "-margin_nanos")
    list_before_template = "billing/month_sums.html"

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        rows = [
            {"month": f"{found.month:%Y-%m}", "organizations": found.organizations}
            | {"amounts": [show_usd(nanos) for nanos in found.amounts.values()]}
            for found in rebates.margins()
        ]
        shown: TemplateResponse = super().changelist_view(request, {**(extra_context or {}), "margins": rows})
        return shown

    @admin.display(ordering="charged_nanos")
    def charged(self, close: MonthClose) -> str:
        return show_usd(close.charged_nanos)

    @admin.display(ordering="base_nanos")
    def base(self, close: MonthClose) -> str:
        return show_usd(close.base_nanos)

    @admin.display(ordering="loss_nanos")
    def loss(self, close: MonthClose) -> str:
        return show_usd(close.loss_nanos)

    @admin.display(ordering="rebate_nanos")
    def rebate(self, close: MonthClose) -> str:
        return show_usd(close.rebate_nanos)

    @admin.display(ordering="margin_nanos")
    def margin(self, close: MonthClose) -> str:
        return show_usd(close.margin_nanos)


@admin.register(Plan)
class PlanAdmin(ReadOnly):
    list_display = ("name", "slug", "markup", "monthly", "volume_discount", "starts_at")
    ordering = ("slug", "-starts_at")

    @admin.display(ordering="monthly_nanos")
    def monthly(self, plan: Plan) -> str:
        return "custom" if plan.monthly_nanos is None else show_usd(plan.monthly_nanos)


@admin.register(Price)
class PriceAdmin(ReadOnly):
    list_display = ("endpoint", "stated", "source", "starts_at")
    search_fields = ("endpoint",)
    ordering = ("endpoint", "-starts_at")


@admin.register(Posting)
class PostingAdmin(ReadOnly):
    list_display = ("id", "kind", "organization", "source", "source_id", "note", "created_at")
    list_filter = ("kind",)
    search_fields = ("source_id", "organization__slug")
    list_select_related = ("organization",)
    ordering = ("-id",)
    inlines = (EntryLines,)


@admin.register(Entry)
class EntryAdmin(ReadOnly):
    list_display = ("id", "posting", "account", "usd")
    list_filter = ("account__kind",)
    search_fields = ("posting__source_id",)
    list_select_related = ("posting", "account__organization")
    ordering = ("-id",)

    @admin.display(description="amount", ordering="nanos")
    def usd(self, entry: Entry) -> str:
        return show_usd(entry.nanos)


@admin.register(Generation)
class GenerationAdmin(ReadOnly):
    list_display = (
        "id",
        "organization",
        "status",
        "model_asked",
        "endpoint",
        "charge",
        "latency_ms",
        "ended_at",
    )
    list_filter = ("status", "streamed", "estimated")
    search_fields = ("=id", "organization__slug", "endpoint")
    list_select_related = ("organization",)
    ordering = ("-id",)

    @admin.display(ordering="charge_nanos")
    def charge(self, generation: Generation) -> str:
        return show_usd(generation.charge_nanos)


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnly):
    list_display = ("id", "type", "object_id", "source", "created_at", "handled_at", "tries", "outcome")
    list_filter = ("source", ("handled_at", admin.EmptyFieldListFilter), "type")
    search_fields = ("=id", "=object_id")
    ordering = ("-received_at",)
    actions = ("handle_again",)

    def has_handle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("billing.change_stripeevent")

    @admin.action(description="Handle again", permissions=["handle"])
    def handle_again(self, request: HttpRequest, chosen: QuerySet[StripeEvent]) -> None:
        count = inbox.replay(chosen.values_list("pk", flat=True))
        self.message_user(request, f"{count} events will be handled again.", messages.SUCCESS)
