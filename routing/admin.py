"""The catalog in the admin: what an operator changes here survives every sync."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.forms import ModelForm
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from routing import snapshot, sync
from routing.models import Catalogued, Endpoint, ManagedKey, Model, Provider


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
