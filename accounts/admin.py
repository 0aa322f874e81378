"""Operators' view of WHO. Keys are read-only here and show no hash; people change them on their pages."""

from __future__ import annotations

from typing import Any, cast

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django import forms
from django.contrib import admin
from django.db import transaction
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from accounts import audit, members, people
from accounts.core import roles
from accounts.models import AuditEntry, Key, KeySecret, Membership, Organization, User


class ReadOnly:
    """Neither added, nor changed, nor deleted here."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AnOwner(BaseInlineFormSet):  # type: ignore[type-arg]
    """Whatever operators change of the members, somebody who can sign in owns the organization afterwards."""

    def clean(self) -> None:
        super().clean()
        if self.instance.pk is None or any(self.errors):
            return
        members.lock(self.instance.pk)
        changed = [form for form in self.forms if form.has_changed()]
        if not changed:
            return
        owners = Membership.objects.of(self.instance).filter(role=roles.OWNER, user__is_active=True)
        kept = owners.exclude(pk__in=[form.instance.pk for form in changed if form.instance.pk])
        if not kept.exists() and not any(self._owns(form) for form in changed):
            raise forms.ValidationError("An organization needs an owner who may sign in.")

    def _owns(self, form: Any) -> bool:
        said = form.cleaned_data
        person = said.get("user")
        is_left = not said.get("DELETE") and said.get("role") == roles.OWNER
        return bool(is_left and person is not None and person.is_active)


class Members(TabularInline):
    model = Membership
    formset = AnOwner
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
    fields = ("email", "is_active", "is_staff", "is_superuser", "groups", "created_at", "last_login")
    readonly_fields = ("email", "created_at", "last_login")
    filter_horizontal = ("groups",)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A person may have made keys and acts in the audit log: they are deactivated."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Whoever is not a superuser gives nobody what they do not have themselves."""
        if request.user.is_superuser:
            return self.readonly_fields
        return (*self.readonly_fields, "is_staff", "is_superuser", "groups")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        may = super().has_change_permission(request, obj)
        return bool(may and (obj is None or not obj.is_superuser or request.user.is_superuser))

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        changed = {name: getattr(obj, name) for name in form.changed_data if name != "groups"}
        people.change(obj, changed, by=cast(User, request.user))


@admin.register(Organization)
class OrganizationAdmin(ModelAdmin):
    list_display = ("slug", "name", "public_id", "created_at")
    search_fields = ("slug", "name", "public_id", "memberships__user__email")
    fields = ("slug", "name", "public_id", "created_at")
    readonly_fields = ("public_id", "created_at")
    inlines = (Members,)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Organization, form: Any, change: bool) -> None:
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            if change and form.changed_data:
                said = {name: str(form.cleaned_data[name]) for name in form.changed_data}
                _told(request, obj, "organization.changed", said)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        with transaction.atomic():
            super().save_formset(request, form, formset, change)
            for held in formset.new_objects:
                _told(request, form.instance, "member.added", {"email": held.user.email, "role": held.role})
            for held, _ in formset.changed_objects:
                _told(request, form.instance, "member.changed", {"email": held.user.email, "role": held.role})
            for held in formset.deleted_objects:
                members.end_playground(form.instance.pk, held.user_id, by=cast(User, request.user))
                _told(request, form.instance, "member.removed", {"email": held.user.email})


admin.site.unregister([Authenticator, EmailAddress, UserSession])
"""allauth's own pages show sessions' keys, which sign in whoever holds one, and let addresses be verified."""


@admin.register(Authenticator)
class AuthenticatorAdmin(ReadOnly, ModelAdmin):
    """Which factors a person has, without what they are made of; who lost theirs is helped by deleting it."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type",)
    list_select_related = ("user",)
    search_fields = ("user__email",)
    fields = list_display

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("mfa.delete_authenticator"))

    def delete_model(self, request: HttpRequest, obj: Authenticator) -> None:
        people.take_factor(obj, by=cast(User, request.user))

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for factor in queryset:
            people.take_factor(factor, by=cast(User, request.user))


def _told(request: HttpRequest, organization: Organization, verb: str, detail: dict[str, Any]) -> None:
    audit.record(organization, verb, by=cast(User, request.user), object="organization", detail=detail)


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
