"""The catalog in the admin: what an operator changes here survives every sync."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Case, QuerySet, When
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display

from routing import price_watch, proposals, snapshot, sync
from routing.models import Catalogued, Endpoint, ManagedKey, Model, PriceProposal, PriceSource, Provider


class CataloguedAdmin(ModelAdmin):
    """Nothing is deleted, only disabled: generations and prices name it for ever."""

    search_fields = ("slug",)
    readonly_fields = ("retired", "from_catalog", "updated_at")

    def save_model(self, request: HttpRequest, obj: Catalogued, form: ModelForm[Any], change: bool) -> None:
        sync.save_edit(obj, form.changed_data)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.readonly_fields, *(self.identity if obj else ()))

    identity: tuple[str, ...] = ("slug",)


class ManagedKeyInline(TabularInline):
    """Names of variables, never secrets. Files say nothing of these, so no sync touches them."""

    model = ManagedKey
    extra = 0


@admin.register(Provider)
class ProviderAdmin(CataloguedAdmin):
    inlines = (ManagedKeyInline,)
    list_display = ("slug", "name", "dialect", "env_prefix", "sandbox", "enabled", "retired", "held")
    list_filter = ("enabled", "retired", "sandbox")

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        formset.save()
        if formset.has_changed():
            snapshot.bump()


@admin.register(Model)
class ModelAdmin_(CataloguedAdmin):
    list_display = ("slug", "name", "model_class", "auto", "context_length", "enabled", "retired", "held")
    list_filter = ("enabled", "retired", "model_class", "auto")


@admin.register(Endpoint)
class EndpointAdmin(CataloguedAdmin):
    list_display = ("slug", "upstream_name", "ttft_ms", "tokens_per_second", "enabled", "retired", "held")
    list_filter = ("enabled", "retired", "provider")
    autocomplete_fields = ("provider", "model")
    identity = ("provider", "model")


class Watched(ModelAdmin):
    """The price job writes these; operators look, and decide by actions."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(PriceSource)
class PriceSourceAdmin(Watched):
    list_display = ("name", "version", "seen_at", "tried_at", "problem")


@admin.register(PriceProposal)
class PriceProposalAdmin(Watched):
    list_display = ("endpoint", "shown_state", "changes", "said", "since")
    list_filter = ("state", "source", "created_at")
    search_fields = ("endpoint",)
    list_per_page = 50
    ordering = (Case(When(state=PriceProposal.WAITING, then=0), default=1), "-id")
    actions = ("approve", "refuse")
    readonly_fields = ("changes",)

    @display(
        description="state",
        ordering="state",
        label={
            "Waiting": "warning",
            "Approved": "success",
            "Applied by itself": "success",
            "Refused": "danger",
        },
    )
    def shown_state(self, proposal: PriceProposal) -> str:
        return PriceProposal.STATES[proposal.state]

    @admin.display(description="changes, USD per million tokens", ordering="percent")
    def changes(self, proposal: PriceProposal) -> SafeString:
        lines = [
            (f"{kind} {now} → {then}" if now else f"{kind} differ", f"{percent} %" if percent else "")
            for kind, now, then, percent in price_watch.shown(proposal.differences)
        ]
        return format_html_join("", '<div style="white-space: nowrap">{} <strong>{}</strong></div>', lines)

    @admin.display(description="source")
    def said(self, proposal: PriceProposal) -> str:
        by = f" ({proposal.decided_by.removeprefix('user:')})" if proposal.decided_by else ""
        return f"{proposal.source}. {proposal.reason}{by}"

    @admin.display(description="since, UTC", ordering="created_at")
    def since(self, proposal: PriceProposal) -> str:
        return f"{proposal.created_at:%-d %b %H:%M}"

    def has_decide_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("routing.change_priceproposal")

    @action(description="Approve: put the proposed price in force", permissions=["decide"])
    def approve(self, request: HttpRequest, chosen: QuerySet[PriceProposal]) -> HttpResponse | None:
        return self._decide(request, chosen, "approve")

    @action(description="Refuse: keep the price in force", permissions=["decide"])
    def refuse(self, request: HttpRequest, chosen: QuerySet[PriceProposal]) -> HttpResponse | None:
        return self._decide(request, chosen, "refuse")

    def _decide(
        self, request: HttpRequest, chosen: QuerySet[PriceProposal], verb: str
    ) -> HttpResponse | None:
        """A page that asks, and on its answer the deed, one by one: what cannot be decided is said."""
        if "confirmed" not in request.POST:
            context = {
                **self.admin_site.each_context(request),
                "title": f"{verb.title()} prices",
                "verb": verb,
                "proposals": [(row, self.changes(row)) for row in chosen],
                "opts": self.model._meta,
            }
            return TemplateResponse(request, "routing/decide_prices.html", context)
        reason = request.POST.get("reason", "").strip()[:1000]
        by = f"user:{request.user.get_username()}"[:300]
        done = 0
        for row in chosen:
            try:
                if verb == "approve":
                    decided = proposals.approve(row.pk, by=by, reason=reason)
                else:
                    decided = proposals.refuse(row.pk, by=by, reason=reason)
            except proposals.Moved as moved:
                messages.error(request, str(moved))
                continue
            done += 1
            self.log_change(request, decided, f"{verb}: {decided.proposed}. {reason}"[:2000])
        if done:
            messages.success(request, f"{done} {'price' if done == 1 else 'prices'}: {decided.state}.")
        return None
