"""What operators may look at. Money is changed by verbs and commands only, so everything is read-only."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin, TabularInline

from billing import alerts, rebates
from billing.core.money import nanos_of_cents, show_usd
from billing.documents_admin import CreditNoteAction
from billing.models import (
    AgreedTerms,
    Alert,
    AutoTopUp,
    BillingProfile,
    Budget,
    BudgetAlert,
    CreditLot,
    Dispute,
    Document,
    Entry,
    FraudWarning,
    Generation,
    Inquiry,
    JobRun,
    Letter,
    MonthClose,
    Plan,
    Posting,
    Price,
    Refund,
    StripeEvent,
    StripeInvoice,
    Subscription,
    TopUp,
    Wallet,
)
from billing.payments import inbox
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


@admin.register(Alert)
class AlertAdmin(ReadOnly):
    list_display = ("kind", "subject", "says", "organization", "count", "raised_at", "last_at", "resolved_at")
    list_filter = (("resolved_at", admin.EmptyFieldListFilter), "kind")
    search_fields = ("subject", "says", "organization__slug", "organization__public_id")
    list_select_related = ("organization",)
    ordering = ("-raised_at",)
    actions = ("resolve",)

    def has_resolve_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("billing.change_alert")

    @admin.action(description="Resolve", permissions=["resolve"])
    def resolve(self, request: HttpRequest, chosen: QuerySet[Alert]) -> None:
        """Dealt with: should it come again, it is a new row and a new e-mail."""
        count = 0
        for alert in chosen.filter(resolved_at=None):
            if alerts.resolve(alert.kind, alert.subject):
                self.log_change(request, alert, "Resolved.")
                count += 1
        self.message_user(request, f"{count} alerts are resolved.", messages.SUCCESS)


class OfStripe(ReadOnly):
    """Rows of ours that stand for an object at Stripe; amounts there are cents."""

    list_select_related = ("organization",)
    search_fields: ClassVar[tuple[str, ...]] = (
        "=stripe_id",
        "organization__slug",
        "organization__public_id",
    )

    @admin.display(ordering="cents")
    def amount(self, row: Any) -> str:
        return show_usd(nanos_of_cents(row.cents))


@admin.register(TopUp)
class TopUpAdmin(OfStripe):
    list_display = ("id", "organization", "kind", "amount", "state", "payment_intent_id", "created_at")
    list_filter = ("state", "kind")
    search_fields = ("=id", "=payment_intent_id", "=charge_id", "=session_id", "organization__slug")
    ordering = ("-created_at",)


@admin.register(AutoTopUp)
class AutoTopUpAdmin(OfStripe):
    list_display = ("organization", "enabled", "amount", "paused_at", "paused_because", "changed_at")
    list_filter = ("enabled", "paused_because")
    search_fields = ("organization__slug", "organization__public_id")


@admin.register(Refund)
class RefundAdmin(OfStripe):
    list_display = ("id", "organization", "amount", "state", "reason", "stripe_id", "created_at")
    list_filter = ("state", "reason")
    ordering = ("-created_at",)


@admin.register(Dispute)
class DisputeAdmin(OfStripe):
    list_display = ("stripe_id", "organization", "amount", "reason", "status", "evidence_due_at", "opened_at")
    list_filter = ("status",)
    ordering = ("-opened_at",)


@admin.register(FraudWarning)
class FraudWarningAdmin(OfStripe):
    list_display = ("stripe_id", "organization", "charge_id", "fraud_type", "seen_at")
    ordering = ("-seen_at",)


@admin.register(Subscription)
class SubscriptionAdmin(OfStripe):
    list_display = ("id", "organization", "plan", "next_plan", "state", "stripe_id", "period_end")
    list_filter = ("state", "plan")
    ordering = ("-created_at",)


@admin.register(StripeInvoice)
class StripeInvoiceAdmin(OfStripe):
    list_display = ("id", "organization", "purpose", "amount", "state", "stripe_id", "due_at", "paid_at")
    list_filter = ("state", "purpose")
    ordering = ("-created_at",)


@admin.register(Document)
class DocumentAdmin(CreditNoteAction, ReadOnly):
    list_display = ("number", "organization", "kind", "purpose", "month", "total", "issued_at", "emailed_at")
    list_filter = ("kind", "purpose")
    search_fields = ("=number", "organization__slug", "organization__public_id")
    list_select_related = ("organization",)
    ordering = ("-issued_at",)
    exclude = ("pdf",)

    @admin.display(ordering="total_nanos")
    def total(self, document: Document) -> str:
        return show_usd(document.total_nanos)


@admin.register(BillingProfile)
class BillingProfileAdmin(ReadOnly):
    list_display = (
        "organization",
        "name",
        "tax_id",
        "reference",
        "email",
        "email_confirmed_at",
        "changed_at",
    )
    search_fields = ("organization__slug", "organization__public_id", "name", "tax_id")
    list_select_related = ("organization",)


@admin.register(CreditLot)
class CreditLotAdmin(ReadOnly):
    list_display = ("posting", "organization", "kind", "came_in", "left", "expires_at")
    list_filter = ("kind",)
    search_fields = ("organization__slug", "organization__public_id")
    list_select_related = ("organization", "posting")
    ordering = ("-id",)

    @admin.display(ordering="nanos")
    def came_in(self, lot: CreditLot) -> str:
        return show_usd(lot.nanos)

    @admin.display(ordering="remaining_nanos")
    def left(self, lot: CreditLot) -> str:
        return show_usd(lot.remaining_nanos)


@admin.register(Letter)
class LetterAdmin(ReadOnly):
    list_display = ("kind", "organization", "subject_id", "to", "created_at", "sent_at")
    list_filter = ("kind", ("sent_at", admin.EmptyFieldListFilter))
    search_fields = ("subject_id", "organization__slug")
    list_select_related = ("organization",)
    ordering = ("-created_at",)


@admin.register(Budget)
class BudgetAdmin(ReadOnly):
    list_display = ("public_id", "organization", "kind", "member", "end_user", "window", "limit_nanos")
    list_filter = ("kind", "window", ("deleted_at", admin.EmptyFieldListFilter))
    search_fields = ("public_id", "organization__slug", "member__email", "end_user")
    list_select_related = ("organization", "member")


@admin.register(BudgetAlert)
class BudgetAlertAdmin(ReadOnly):
    list_display = ("organization", "account", "percent", "used_nanos", "limit_nanos", "at")
    search_fields = ("organization__slug", "account")
    list_select_related = ("organization",)
    ordering = ("-at",)


@admin.register(Inquiry)
class InquiryAdmin(ReadOnly):
    list_display = ("name", "email", "company", "spend", "organization", "created_at", "sent_at")
    search_fields = ("name", "email", "company", "text")
    list_select_related = ("organization",)
    ordering = ("-created_at",)


@admin.register(JobRun)
class JobRunAdmin(ReadOnly):
    list_display = ("name", "ended_at", "note")
    ordering = ("ended_at",)
