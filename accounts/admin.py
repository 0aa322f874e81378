"""Operators' view of WHO. Keys are read-only here and show no hash; people change them on their pages."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from accounts.models import AuditEntry, Key, KeySecret, Membership, Organization, User


class ReadOnly:
    """Neither added, nor changed, nor deleted here."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Members(TabularInline):
    model = Membership
    extra = 0
    autocomplete_fields = ("user",)


class Secrets(ReadOnly, TabularInline):
    model = KeySecret
    fields = ("prefix", "last4", "created_at", "expires_at")
    readonly_fields = fields
    extra = 0


@admin.register(User)
class UserAdmin(ModelAdmin):
    list_display = ("email", "is_active", "is_staff", "created_at", "last_login")
    list_filter = ("is_active", "is_staff")
    search_fields = ("email",)
    fields = ("email", "is_active", "is_staff", "is_superuser", "created_at", "last_login")
    readonly_fields = ("created_at", "last_login")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Organization)
class OrganizationAdmin(ModelAdmin):
    list_display = ("slug", "name", "public_id", "created_at")
    search_fields = ("slug", "name", "public_id")
    fields = ("slug", "name", "public_id", "created_at")
    readonly_fields = ("public_id", "created_at")
    inlines = (Members,)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Key)
class KeyAdmin(ReadOnly, ModelAdmin):
    list_display = ("public_id", "organization", "name", "scope", "state", "expires_at", "last_used_at")
    list_filter = ("state", "scope")
    list_select_related = ("organization",)
    search_fields = ("public_id", "name", "organization__slug", "secrets__last4")
    inlines = (Secrets,)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly, ModelAdmin):
    list_display = ("at", "organization", "actor", "verb", "object")
    list_filter = ("verb",)
    list_select_related = ("organization",)
    search_fields = ("organization__slug", "actor", "object")
    date_hierarchy = "at"
