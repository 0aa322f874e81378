"""What operators may look at. Money is changed by verbs and commands only, so everything is read-only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from billing import inbox
from billing.models import Entry, Generation, Plan, Posting, Price, StripeEvent, Wallet
from billing.money import show_usd


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
class WalletAdmin(ReadOnly):
    list_display = ("organization", "balance", "plan", "markup", "terms_version", "opened_at")
    list_filter = ("plan",)
    search_fields = ("organization__slug", "organization__name", "organization__public_id")
    list_select_related = ("organization",)

    @admin.display(ordering="balance_nanos")
    def balance(self, wallet: Wallet) -> str:
        return show_usd(wallet.balance_nanos)


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
