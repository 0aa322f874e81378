"""The tables of WHO: people, organizations and their keys, what was done by whom, and who is told of it."""

from accounts.models.tenants import (
    AuditEntry,
    DataPolicy,
    Invitation,
    Key,
    KeySecret,
    LogKey,
    Membership,
    Organization,
    RequestLogging,
    User,
)
from accounts.models.webhooks import (
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
    WebhookSecret,
)

__all__ = [
    "AuditEntry",
    "DataPolicy",
    "Invitation",
    "Key",
    "KeySecret",
    "LogKey",
    "Membership",
    "Organization",
    "RequestLogging",
    "User",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
    "WebhookSecret",
]
