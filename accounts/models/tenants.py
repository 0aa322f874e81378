"""Columns of WHO: people, organizations, their keys, and what was done by whom."""

from __future__ import annotations

from functools import partial
from typing import Any

import pgtrigger
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower

from accounts.core import limits, roles
from accounts.owned import Owned
from aggregator.lib import clock, ids


class UserManager(BaseUserManager["User"]):
    """People sign in with their e-mail; it is stored in lower case."""

    def create_user(self, email: str, password: str | None = None, **values: Any) -> User:
        user = self.model(email=email.strip().lower(), **values)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **values: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **values)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email=(username or "").lower())


class User(AbstractBaseUser, PermissionsMixin):
    """A person."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=limits.MOST_NAME, blank=True, default="")
    """As the person wants to be called; empty: by the e-mail."""
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False, help_text="May open the operators' admin.")
    created_at = models.DateTimeField(default=clock.now, editable=False)

    objects = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS = []

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_any_case")]

    def __str__(self) -> str:
        return self.email

    def get_full_name(self) -> str:
        return self.name or self.email

    def get_short_name(self) -> str:
        return self.name or self.email.partition("@")[0]


class Organization(models.Model):
    """The tenant: its people, its keys, its wallet."""

    public_id = models.CharField(max_length=12, unique=True, default=partial(ids.base62, 12), editable=False)
    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=limits.MOST_NAME)
    two_factor_required = models.BooleanField(default=False)
    """Whether its members reach its pages only with a second factor."""
    opened_by = models.ForeignKey(
        User, null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    is_further = models.BooleanField(default=False, editable=False)
    """Whether who opened it had opened one before: starting credit is given once a person."""
    budgets_version = models.PositiveIntegerField(db_default=1, default=1, editable=False)
    """Counts changes of its budgets; the gate compares it at every admission."""
    created_at = models.DateTimeField(default=clock.now, editable=False)

    def __str__(self) -> str:
        return self.slug


class Membership(Owned):
    """One person's role in one organization."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=20)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    seen_at = models.DateTimeField(null=True, blank=True, editable=False)
    """When they last used a page for this organization, to within some minutes."""

    class Meta(Owned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["user", "organization"], name="membership_once"),
            models.CheckConstraint(condition=models.Q(role__in=list(roles.ROLES)), name="membership_role"),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"

    def may(self, permission: str) -> bool:
        return roles.may(self.role, permission)


class Invitation(Owned):
    """An address that is asked to join: good for its holder alone, once, until `expires_at`."""

    email = models.EmailField()
    """In lower case."""
    role = models.CharField(max_length=20)
    digest = models.BinaryField(max_length=32, unique=True)
    """The HMAC of the token in the newest letter's link; the token itself is nowhere."""
    invited_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    sent_at = models.DateTimeField(default=clock.now)
    times_sent = models.PositiveSmallIntegerField(default=1)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta(Owned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "email"],
                condition=models.Q(accepted_at=None, revoked_at=None),
                name="invitation_once",
            ),
            models.CheckConstraint(condition=models.Q(role__in=list(roles.ROLES)), name="invitation_role"),
        ]

    def __str__(self) -> str:
        return f"{self.email} ({self.role})"


class Key(Owned):
    """An API key: limits and budgets belong to it, whichever of its secrets is used."""

    class State(models.TextChoices):
        ACTIVE = "active"
        DISABLED = "disabled"
        DELETED = "deleted"

    public_id = models.CharField(max_length=24, unique=True, editable=False)
    """`key_…`, set by `accounts.keys.create`."""
    name = models.CharField(max_length=limits.MOST_NAME)
    scope = models.CharField(max_length=20, default=roles.INFERENCE)
    version = models.PositiveIntegerField(default=1)
    state = models.CharField(max_length=10, default=State.ACTIVE)
    expires_at = models.DateTimeField(null=True, blank=True)
    limit_nanos = models.BigIntegerField(null=True, blank=True)
    limit_window = models.CharField(max_length=10, default="total")
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    allowed_models = ArrayField(models.CharField(max_length=160), default=list, blank=True)
    created_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True)
    is_playground = models.BooleanField(default=False, editable=False)
    """One a member: what the playground calls with, by secrets that end after minutes. No list shows it."""
    exposed_at = models.DateTimeField(null=True, blank=True)
    """When a secret of this key was seen where secrets must not be, such as in a URL."""

    class Meta(Owned.Meta):
        indexes = [models.Index(fields=["organization", "-created_at"], name="key_by_organization")]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "created_by"],
                condition=models.Q(is_playground=True) & ~models.Q(state="deleted"),
                name="key_of_playground_once",
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=["active", "disabled", "deleted"]), name="key_state"
            ),
            models.CheckConstraint(condition=models.Q(scope__in=list(roles.SCOPES)), name="key_scope"),
            models.CheckConstraint(condition=models.Q(version__gte=1), name="key_version"),
            models.CheckConstraint(
                condition=models.Q(limit_window__in=list(limits.WINDOWS)), name="key_limit_window"
            ),
            models.CheckConstraint(
                condition=models.Q(limit_nanos__isnull=True)
                | models.Q(limit_nanos__range=(0, limits.MOST_NANOS)),
                name="key_limit_nanos",
            ),
            models.CheckConstraint(
                condition=models.Q(requests_per_minute__isnull=True) | models.Q(requests_per_minute__gte=1),
                name="key_requests_per_minute",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"


class KeySecret(models.Model):
    """One text that opens a key, as an HMAC. A rotated key has two until the older expires."""

    key = models.ForeignKey(Key, on_delete=models.CASCADE, related_name="secrets")
    digest = models.BinaryField(max_length=32, unique=True)
    prefix = models.CharField(max_length=16)
    last4 = models.CharField(max_length=4)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["key", "-created_at"], name="key_secret_by_key")]

    def __str__(self) -> str:
        return f"{self.prefix}…{self.last4}"


class DataPolicy(Owned):
    """Which providers may serve an organization, from `set_at` on. The newest row is in force."""

    no_training = models.BooleanField(default=False)
    zero_retention = models.BooleanField(default=False)
    only = ArrayField(models.CharField(max_length=40), null=True)
    """None is all, those that join the catalog later too."""
    ignore = ArrayField(models.CharField(max_length=40), default=list)
    set_by = models.CharField(max_length=300)
    set_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta(Owned.Meta):
        verbose_name_plural = "data policies"
        indexes = [models.Index(fields=["organization", "-id"], name="data_policy_by_organization")]
        triggers = [
            pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.organization_id} {self.set_at:%Y-%m-%d %H:%M}"


class RequestLogging(Owned):
    """Whether calls are logged, which, what of them, and for how long. The newest row is in force."""

    on = models.BooleanField()
    request = models.BooleanField(default=True)
    reply = models.BooleanField(default=True)
    days = models.PositiveSmallIntegerField()
    keys = ArrayField(models.BigIntegerField(), null=True)
    """Ids of the keys whose calls are logged; None is every key."""
    set_by = models.CharField(max_length=300)
    set_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta(Owned.Meta):
        verbose_name_plural = "request logging"
        indexes = [models.Index(fields=["organization", "-id"], name="logging_by_organization")]
        constraints = [
            models.CheckConstraint(condition=models.Q(days__range=limits.LOG_DAYS), name="logging_days"),
        ]
        triggers = [
            pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.organization_id} {'on' if self.on else 'off'}"


class LogKey(Owned):
    """What opens an organization's request logs, sealed under a master key. Destroyed, it is never again."""

    fingerprint = models.CharField(max_length=64, unique=True)
    wrapped = models.BinaryField(null=True)
    master = models.CharField(max_length=16)
    """Which master key sealed it."""
    created_at = models.DateTimeField(default=clock.now, editable=False)
    destroyed_at = models.DateTimeField(null=True)

    class Meta(Owned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["organization"], condition=models.Q(destroyed_at=None), name="one_living_log_key"
            ),
            models.CheckConstraint(
                condition=models.Q(destroyed_at=None, wrapped__isnull=False)
                | models.Q(destroyed_at__isnull=False, wrapped=None),
                name="destroyed_log_keys_are_empty",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="is_evidence", operation=pgtrigger.Delete),
            pgtrigger.Protect(
                name="stays_destroyed",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__destroyed_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.fingerprint[:16]


class AuditEntry(Owned):
    """Who did what to which object, and when. Only ever added: a trigger refuses the rest."""

    at = models.DateTimeField(default=clock.now, editable=False)
    actor = models.CharField(max_length=300)
    """`user:<e-mail>`, `key:<public id>` or `system:<name>`: text, so that it outlives the actor."""
    verb = models.CharField(max_length=60)
    object = models.CharField(max_length=300)
    detail = models.JSONField(default=dict)

    class Meta(Owned.Meta):
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["organization", "-at"], name="audit_by_organization")]
        triggers = [
            pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.actor} {self.verb} {self.object}"
