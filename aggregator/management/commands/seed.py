"""The demo of the embedded default: an organization with its owner, credit and two keys, made once.

The password and the keys' texts are kept in VAR_DIR, since the database holds only their hashes, so that
seeding again returns the same; whatever no longer works is made again.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounts import keys, signup
from accounts.core import roles
from accounts.models import Organization, User
from aggregator.embedded.state import write_private
from aggregator.lib.errors import Refusal
from billing import wallets

SLUG = "demo"
EMAIL = "demo@fairlead.invalid"
_KEYS = (
    ("api_key", "Demo", roles.INFERENCE),
    ("management_key", "Demo management", roles.MANAGEMENT),
)


class Command(BaseCommand):
    help = "Make the demo organization of the embedded default, or make it whole again."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.EMBEDDED:
            raise CommandError("The seed makes a demo organization: it runs only where EMBEDDED is on.")
        path: Path = settings.VAR_DIR / "demo.json"
        kept = _read(path)
        made = {"email": EMAIL, "password": kept.get("password") or secrets.token_urlsafe(12)}
        with transaction.atomic():
            owner = _owner(made["password"])
            organization = Organization.objects.get(slug=SLUG)
            for field, name, scope in _KEYS:
                made[field] = _key(organization, owner, kept.get(field, ""), name=name, scope=scope)
            if made != kept:
                # Before the commit: a text that is in the database but nowhere else opens nothing.
                path.parent.mkdir(parents=True, exist_ok=True)
                write_private(path, json.dumps(made, indent=2) + "\n")
        wallets.open_wallet(organization.pk)
        self.stdout.write(f"{SLUG}: sign in as {EMAIL}; password and keys are in {path}")


def _owner(password: str) -> User:
    """The demo's person, who owns its organization and signs in with this password."""
    owner = User.objects.filter(email=EMAIL).first()
    if owner is None:
        owner, _ = signup.register(EMAIL, password, slug=SLUG, name="Demo")
        return owner
    if not owner.check_password(password):
        owner.set_password(password)
        owner.save(update_fields=["password"])
    EmailAddress.objects.filter(user=owner, email=EMAIL).update(verified=True, primary=True)
    return owner


def _key(organization: Organization, owner: User, text: str, *, name: str, scope: str) -> str:
    """The kept key if it still opens this organization, else a new one."""
    try:
        principal = keys.principal(text)
    except Refusal:
        return keys.create(organization, name=name, by=owner, scope=scope)[1]
    if principal.organization_id == organization.pk and principal.scope == scope:
        return text
    return keys.create(organization, name=name, by=owner, scope=scope)[1]


def _read(path: Path) -> dict[str, str]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}
