"""The audit log as people read it: each entry in words, found by actor, kind, period and text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast

from accounts.core import limits
from accounts.models import AuditEntry, Key
from aggregator.lib import clock

WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "key.created": "made the key",
        "key.changed": "changed the key",
        "key.disabled": "disabled the key",
        "key.enabled": "enabled the key",
        "key.deleted": "deleted the key",
        "key.rotated": "rotated the key",
        "key.exposed": "saw in a URL the key",
        "member.added": "added",
        "member.changed": "changed the membership of",
        "member.role_changed": "changed the role of",
        "member.removed": "removed",
        "member.left": "left the organization",
        "member.joined": "joined the organization",
        "member.signed_in": "signed in",
        "invitation.sent": "invited",
        "invitation.revoked": "took back the invitation of",
        "organization.opened": "opened the organization",
        "organization.changed": "changed the organization",
        "organization.renamed": "renamed the organization",
        "organization.rules_changed": "changed the rules of the organization",
        "organization.handed_over": "handed the organization over to",
        "organization.frozen": "suspended the organization",
        "organization.thawed": "ended the suspension of the organization",
        "data_policy.changed": "changed which providers may serve",
        "budget.set": "set the budget",
        "budget.changed": "changed the budget",
        "budget.deleted": "deleted the budget",
        "credit_notice.set": "changed when to tell of low credit",
        "request_logging.switched_on": "switched request logging on",
        "request_logging.switched_off": "switched request logging off",
        "request_logging.changed": "changed what is logged of requests",
        "request_log.opened": "opened the log of a call",
        "request_logs.deleted": "deleted request logs",
        "security.password_changed": "changed their password",
        "security.password_reset": "reset their password",
        "security.password_set": "set a password",
        "security.email_changed": "changed their e-mail",
        "security.email_deleted": "removed an e-mail",
        "security.totp_activated": "turned an authenticator app on",
        "security.totp_deactivated": "turned the authenticator app off",
        "security.webauthn_added": "added a passkey",
        "security.webauthn_removed": "removed a passkey",
        "security.recovery_codes_generated": "made recovery codes",
        "webhook.added": "added the webhook",
        "webhook.changed": "changed the webhook",
        "webhook.rotated": "rotated the secret of the webhook",
        "webhook.tested": "sent a test to the webhook",
        "webhook.sent_again": "sent a message again to the webhook",
        "webhook.disabled": "disabled the webhook",
        "webhook.enabled": "enabled the webhook",
        "webhook.deleted": "deleted the webhook",
        "credit.granted": "granted credit",
        "document.credited": "gave a credit note for",
        "billing_profile.changed": "changed who invoices are for",
        "billing_profile.confirmed": "confirmed the address for invoices",
        "plan.set": "set the plan",
        "top_up.begun": "began a top-up",
        "top_up.paid": "paid a top-up",
        "top_up.failed": "had a top-up refused",
        "auto_top_up.set": "set automatic top-up",
        "auto_top_up.paused": "paused automatic top-up",
        "auto_top_up.resumed": "resumed automatic top-up",
        "refund.made": "refunded a payment",
        "refund.failed": "had a refund refused",
        "payment.disputed": "disputed a payment",
        "subscription.begun": "began a subscription",
        "subscription.cancel": "cancelled the subscription",
        "subscription.keep": "kept the subscription",
    }
)
"""Verb → what is said between the actor and the object."""

KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "key": "Keys",
        "member": "Members",
        "invitation": "Invitations",
        "organization": "Organization",
        "security": "Second factors and passwords",
        "data_policy": "Privacy",
        "request_logging": "Request logging",
        "request_log": "Request logs read",
        "request_logs": "Request logs deleted",
        "budget": "Budgets",
        "webhook": "Webhooks",
        "billing": "Billing",
    }
)
_BILLING: Final = (
    *("credit", "document", "billing_profile", "plan", "top_up", "auto_top_up", "refund", "payment"),
    "subscription",
)
_OF_ONESELF: Final = ("member.left", "member.joined", "member.signed_in", "security.")
PERIODS: Final[Mapping[str, str]] = MappingProxyType(
    {"1": "Last 24 hours", "7": "Last 7 days", "30": "Last 30 days", "90": "Last 90 days", "": "Always"}
)
_MOST_ACTORS: Final = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """What a reader looks for; what names nothing is as if it were not said."""

    actor: str = ""
    kind: str = ""
    days: str = ""
    text: str = ""

    def as_query(self) -> dict[str, str]:
        return {"actor": self.actor, "kind": self.kind, "days": self.days, "q": self.text}


@dataclass(frozen=True, slots=True)
class Line:
    """An entry in words."""

    at: datetime
    actor: str
    did: str
    object: str
    details: list[str]


def read(values: Mapping[str, str]) -> Asked:
    """The filters that an address says."""
    kind, days = values.get("kind", ""), values.get("days", "")
    return Asked(
        actor=values.get("actor", "")[:300],
        kind=kind if kind in KINDS else "",
        days=days if days in PERIODS else "",
        text=values.get("q", "").strip()[:100],
    )


def entries(organization_id: int, asked: Asked) -> QuerySet[AuditEntry]:
    """The entries that fit."""
    rows = AuditEntry.objects.of(organization_id)
    if asked.actor:
        rows = rows.filter(actor=asked.actor)
    if asked.kind:
        kinds = _BILLING if asked.kind == "billing" else (asked.kind,)
        fits = Q()
        for kind in kinds:
            fits |= Q(verb__startswith=f"{kind}.")
        rows = rows.filter(fits)
    if asked.days:
        rows = rows.filter(at__gt=clock.now() - timedelta(days=int(asked.days)))
    if asked.text:
        found = Q(object__icontains=asked.text) | Q(actor__icontains=asked.text)
        rows = rows.annotate(told=Cast("detail", TextField()))
        rows = rows.filter(found | Q(verb__icontains=asked.text) | Q(told__icontains=asked.text))
    return rows


def actors(organization_id: int) -> list[tuple[str, str]]:
    """Everybody who stands in the log: as it is filtered by, and in words."""
    rows = AuditEntry.objects.of(organization_id).order_by("actor").values_list("actor", flat=True).distinct()
    found = list(rows[:_MOST_ACTORS])
    names = _key_names(organization_id, [actor.partition(":")[2] for actor in found])
    return [(actor, _actor(actor, names)) for actor in found]


def lines(organization_id: int, rows: Iterable[AuditEntry]) -> Iterator[Line]:
    """The same in words, with the names that keys have today."""
    held = list(rows)
    named = [row.object for row in held] + [row.actor.partition(":")[2] for row in held]
    names = _key_names(organization_id, named)
    for row in held:
        mine = row.verb.startswith(_OF_ONESELF) or row.verb == "organization.opened"
        yield Line(
            at=row.at,
            actor=_actor(row.actor, names),
            did=WORDS.get(row.verb, row.verb.replace(".", " ").replace("_", " ")),
            object="" if mine or not _says_more(row) else _named(row.object, names),
            details=_details(row.detail),
        )


def _says_more(row: AuditEntry) -> bool:
    return row.object not in ("wallet", "organization", "auto_top_up") and ":" not in row.object


def _key_names(organization_id: int, texts: list[str]) -> dict[str, str]:
    ids = {text for text in texts if text.startswith("key_")}
    found = Key.objects.of(organization_id).filter(public_id__in=ids)
    return dict(found.values_list("public_id", "name"))


def _actor(actor: str, names: Mapping[str, str]) -> str:
    """`ada@example.com`, `the key “provisioning”`, `Fairlead`."""
    kind, _, who = actor.partition(":")
    if kind == "user":
        return who
    if kind == "key":
        return f"the key {_named(who, names)}"
    return "Fairlead" if who == "fairlead" else f"Fairlead ({who})"


def _named(text: str, names: Mapping[str, str]) -> str:
    return f"“{names[text]}”" if text in names else text


def _details(detail: Mapping[str, Any]) -> list[str]:
    """`role: member → admin`; what is empty is left out, and what is in nano-dollars said in dollars."""
    found = []
    for name, value in detail.items():
        if value in (None, "", [], {}):
            continue
        said, _, unit = name.rpartition("_")
        if unit == "nanos":
            name, value = said, [_usd(each) for each in value] if isinstance(value, list) else _usd(value)
        found.append(f"{name.replace('_', ' ')}: {_value(value)}")
    return found


def _usd(nanos: Any) -> str:
    return f"${limits.usd(nanos)}" if isinstance(nanos, int) and nanos >= 0 else _plain(nanos)


def _value(value: Any) -> str:
    if isinstance(value, list) and len(value) == 2:
        return f"{_plain(value[0])} → {_plain(value[1])}"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "", [], {}) else str(value)
