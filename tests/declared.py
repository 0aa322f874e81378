"""Who may use which address: one line for each name in the urls.py files, which the isolation walk holds to.

Paths under `/api/v1` and `/v1` are declared by their rows in `aggregator.planes`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping

from django.urls import URLPattern, URLResolver, get_resolver

from accounts.core import roles

ANYBODY = "anybody"
SIGNED_IN = "whoever is signed in"
OPERATOR = "operators"
SECRET = "who shows a secret: a signature, a token"


@dataclasses.dataclass(frozen=True)
class Access:
    """Who may GET, and who may do all else: a permission of `roles`, or one of the four above."""

    reads: str
    writes: str

    def to(self, method: str) -> str:
        return self.reads if method in ("get", "head") else self.writes


def only(who: str, *, writes: str = "") -> Access:
    return Access(who, writes or who)


DECLARED: Mapping[str, Access] = {
    "site:landing": only(ANYBODY),
    "site:numbers": only(ANYBODY),
    "site:pricing": only(ANYBODY),
    "site:contact": only(ANYBODY),
    "site:thanks": only(ANYBODY),
    "site:status": only(ANYBODY),
    "site:docs": only(ANYBODY),
    "site:doc": only(ANYBODY),
    "accounts:keys": only(roles.KEYS_OWN),
    "accounts:key_new": only(roles.KEYS_OWN),
    "accounts:key_edit": only(roles.KEYS_OWN),
    "accounts:key_rotate": only(roles.KEYS_OWN),
    "accounts:key_disable": only(roles.KEYS_OWN),
    "accounts:key_enable": only(roles.KEYS_OWN),
    "accounts:key_delete": only(roles.KEYS_OWN),
    "accounts:organization": only(roles.KEYS_OWN, writes=roles.ORGANIZATION_EDIT),
    "accounts:rules": only(roles.ORGANIZATION_EDIT),
    "accounts:organization_new": only(SIGNED_IN),
    "accounts:switch": only(SIGNED_IN),
    "accounts:leave": only(roles.KEYS_OWN),
    "accounts:members": only(roles.KEYS_OWN, writes=roles.MEMBERS),
    "accounts:member": only(roles.MEMBERS),
    "accounts:member_remove": only(roles.MEMBERS),
    "accounts:member_transfer": only(roles.OWNERSHIP),
    "accounts:invitation_again": only(roles.MEMBERS),
    "accounts:invitation_revoke": only(roles.MEMBERS),
    "accounts:invitation": only(SECRET),
    "accounts:audit": only(roles.AUDIT),
    "accounts:audit_csv": only(roles.AUDIT),
    "accounts:settings": only(SIGNED_IN),
    "accounts:sessions": only(SIGNED_IN),
    "accounts:session_end": only(SIGNED_IN),
    "accounts:webhooks": only(roles.BILLING),
    "accounts:webhook_new": only(roles.BILLING),
    "accounts:webhook": only(roles.BILLING),
    "accounts:webhook_edit": only(roles.BILLING),
    "accounts:webhook_rotate": only(roles.BILLING),
    "accounts:webhook_test": only(roles.BILLING),
    "accounts:webhook_disable": only(roles.BILLING),
    "accounts:webhook_enable": only(roles.BILLING),
    "accounts:webhook_delete": only(roles.BILLING),
    "accounts:webhook_delivery": only(roles.BILLING),
    "accounts:webhook_again": only(roles.BILLING),
    "accounts:privacy": only(roles.KEYS_OWN, writes=roles.PRIVACY),
    "accounts:request_logs": only(roles.KEYS_OWN, writes=roles.PRIVACY),
    "accounts:request_logs_off": only(roles.PRIVACY),
    "accounts:request_logs_delete": only(roles.PRIVACY),
    "accounts:request_logs_destroy": only(roles.PRIVACY),
    "accounts:log_deletion": only(roles.PRIVACY),
    "billing:stripe_hook": only(SECRET),
    "billing:metrics": only(SECRET),
    "billing:usage": only(roles.KEYS_OWN),
    "billing:usage_csv": only(roles.KEYS_OWN),
    "billing:overview": only(roles.BILLING),
    "billing:payment": only(roles.BILLING),
    "billing:history": only(roles.BILLING),
    "billing:receipt": only(roles.BILLING),
    "billing:top_up": only(roles.BILLING),
    "billing:refund": only(roles.BILLING),
    "billing:auto_top_up": only(roles.BILLING),
    "billing:resume": only(roles.BILLING),
    "billing:portal": only(roles.BILLING),
    "billing:documents": only(roles.BILLING),
    "billing:running": only(roles.BILLING),
    "billing:document": only(roles.BILLING),
    "billing:document_pdf": only(roles.BILLING),
    "billing:document_csv": only(roles.BILLING),
    "billing:document_json": only(roles.BILLING),
    "billing:profile": only(roles.BILLING),
    "billing:address": only(SECRET),
    "billing:keep_plan": only(roles.BILLING),
    "billing:plan": only(roles.BILLING),
    "billing:budgets": only(roles.KEYS_OWN),
    "billing:budget_alerts": only(roles.KEYS_OWN),
    "billing:budget_new": only(roles.BILLING),
    "billing:budget": only(roles.BILLING),
    "billing:budget_delete": only(roles.BILLING),
    "billing:low_credit": only(roles.BILLING),
    "routing:home": only(ANYBODY),
    "routing:start": only(roles.KEYS_OWN),
    "routing:start_key": only(roles.KEYS_OWN),
    "routing:start_seen": only(roles.KEYS_OWN),
    "routing:start_skip": only(roles.KEYS_OWN),
    "routing:activity": only(roles.KEYS_OWN),
    "routing:activity_new": only(roles.KEYS_OWN),
    "routing:activity_export": only(roles.KEYS_OWN),
    "routing:call": only(roles.KEYS_OWN),
    "routing:request_log": only(roles.KEYS_OWN),
    "routing:request_log_delete": only(roles.PRIVACY),
    "routing:overview": only(roles.KEYS_OWN),
    "routing:playground": only(roles.KEYS_OWN),
    "routing:playground_session": only(roles.KEYS_OWN),
    "routing:playground_limit": only(roles.KEYS_OWN),
    "routing:models": only(ANYBODY),
    "routing:model": only(ANYBODY),
    # allauth's own.
    "account_login": only(ANYBODY),
    "account_logout": only(ANYBODY),
    "account_inactive": only(ANYBODY),
    "account_signup": only(ANYBODY),
    "account_reauthenticate": only(SIGNED_IN),
    "account_email": only(SIGNED_IN),
    "account_email_verification_sent": only(ANYBODY),
    "account_change_password": only(SIGNED_IN),
    "account_set_password": only(SIGNED_IN),
    "account_reset_password": only(ANYBODY),
    "account_confirm_login_code": only(ANYBODY),
    "account_confirm_password_reset_code": only(ANYBODY),
    "account_complete_password_reset": only(ANYBODY),
    "account_password_reset_completed": only(ANYBODY),
    "mfa_index": only(SIGNED_IN),
    "mfa_authenticate": only(ANYBODY),
    "mfa_reauthenticate": only(SIGNED_IN),
    "mfa_activate_totp": only(SIGNED_IN),
    "mfa_deactivate_totp": only(SIGNED_IN),
    "mfa_view_recovery_codes": only(SIGNED_IN),
    "mfa_generate_recovery_codes": only(SIGNED_IN),
    "mfa_download_recovery_codes": only(SIGNED_IN),
    "mfa_login_webauthn": only(ANYBODY),
    "mfa_list_webauthn": only(SIGNED_IN),
    "mfa_add_webauthn": only(SIGNED_IN),
    "mfa_reauthenticate_webauthn": only(SIGNED_IN),
    "mfa_remove_webauthn": only(SIGNED_IN),
    "mfa_edit_webauthn": only(SIGNED_IN),
    "operators-health": only(OPERATOR),
    "operators-margin": only(OPERATOR),
    "admin:login": only(ANYBODY),
    "admin:logout": only(ANYBODY),
}
OPERATORS = only(OPERATOR)
FOLDERS: Mapping[str, Access] = {"admin": OPERATORS}
"""All else that lies in a namespace, whatever its name."""
PLANES = ("api", "api-short")
"""Namespaces whose paths `aggregator.planes` declares."""

ASIDE = {"/health/ready", "/health/live"}
"""What the server answers itself, with a status alone, to anybody."""

PLAIN = {
    "uidb36": "1",
    "app_label": "accounts",
    "content_type_id": "1",
    "url": "anything",
    "from_field": "id",
    "plan": "pro",
    "what": "top_up",
    "author": "sandbox",
    "model": "pebble",
    "token": "a" * 40,
    "slug": "errors",
}
"""Parts of addresses that name nothing of a person or an organization; those that do: `Person.ids`."""
_PART = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclasses.dataclass(frozen=True)
class Address:
    name: str
    """With its namespace; where it has no name, its route."""
    route: str
    access: Access

    @property
    def parts(self) -> set[str]:
        return set(_PART.findall(self.route))

    def path(self, ids: Mapping[str, str]) -> str:
        values = {**PLAIN, **ids}
        return "/" + _PART.sub(lambda found: values[found[1]], self.route)


def addresses() -> list[Address]:
    """Every address of the urlconf but the API's; one that nobody declared, or a stale line, fails."""
    found = list(_entries(get_resolver()))
    nowhere = {name: route for name, route in found if not _access(name)}
    lines = "\n".join(f'    "{name}": only(roles.…),  # /{route}' for name, route in nowhere.items())
    assert not nowhere, f"say in DECLARED (tests/declared.py) who may use these, a line each:\n{lines}"
    stale = DECLARED.keys() - {name for name, _ in found}
    assert not stale, f"no urls.py has {sorted(stale)} any more: take their lines out of tests/declared.py"
    made = [Address(name, route, access) for name, route in found if (access := _access(name))]
    return [address for address in made if not address.name.startswith(tuple(f"{each}:" for each in PLANES))]


def require_known(address: Address, ids: Mapping[str, str]) -> None:
    """Each part of an address stands for something the walk can fill in."""
    for part in address.parts - PLAIN.keys() - ids.keys():
        raise AssertionError(
            f"what stands for <{part}> in /{address.route}? If it names a thing of an organization or a"
            f' person, make one in `_person` and give its id in `Person.ids` as "{part}"'
            " (tests/test_isolation.py); else add it to PLAIN (tests/declared.py)"
        )


def _access(name: str) -> Access | None:
    namespace = name.rpartition(":")[0].partition(":")[0]
    if namespace in PLANES:
        return only(SECRET)
    return DECLARED.get(name) or FOLDERS.get(namespace)


def _entries(resolver: URLResolver, space: str = "", prefix: str = "") -> Iterator[tuple[str, str]]:
    for entry in resolver.url_patterns:
        route = prefix + _as_route(str(entry.pattern))
        if isinstance(entry, URLPattern):
            yield space + (entry.name or route), route
        else:
            inner = f"{entry.namespace}:" if entry.namespace else ""
            yield from _entries(entry, space + inner, route)


def _as_route(pattern: str) -> str:
    """A regular expression, as allauth and the admin have some, in the form of the others."""
    named = re.sub(r"\(\?P<(\w+)>(?:[^()]|\([^()]*\))*\)", r"<\1>", pattern)
    return named.replace("^", "").replace("$", "").replace("\\Z", "")
