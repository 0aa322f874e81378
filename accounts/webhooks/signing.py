"""Secrets of endpoints, and the signatures made with them: the Standard Webhooks scheme, `v1`.

A secret is shown once, as `whsec_…`, and lies in the database sealed under the first of `WEBHOOK_KEYS`; all
of those open. A message is signed with every secret of its endpoint that lives, so that a receiver can
change from one to the next without missing any.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Iterable
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db.models import Q

from accounts.models import WebhookEndpoint, WebhookSecret
from aggregator.lib import clock, seal

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
_FINGERPRINT_DIGITS: Final = 16


class SecretLost(LookupError):
    """No key of `WEBHOOK_KEYS` opens a secret; the endpoint needs a new one."""


def available() -> bool:
    """Whether secrets can be kept at all."""
    return bool(settings.WEBHOOK_KEYS)


def add_secret(endpoint: WebhookEndpoint) -> str:
    """Give a saved endpoint one more secret, and return its text: it is nowhere else."""
    secret = os.urandom(SECRET_BYTES)
    name, key = next(iter(_keys().items()))
    sealed = seal.seal(key, secret, _place(endpoint))
    WebhookSecret.objects.create(endpoint=endpoint, sealed=sealed, sealed_with=name)
    return PREFIX + base64.b64encode(secret).decode()


def living(endpoint: WebhookEndpoint) -> list[WebhookSecret]:
    """The secrets that sign now, the newest first."""
    rows = WebhookSecret.objects.filter(Q(expires_at=None) | Q(expires_at__gt=clock.now()), endpoint=endpoint)
    return list(rows.order_by("-pk"))


def opened(endpoint: WebhookEndpoint) -> list[bytes]:
    """The secrets themselves, the newest first. Raises `SecretLost` when there is none."""
    keys = _keys()
    found = []
    for row in living(endpoint):
        if row.sealed_with in keys:
            found.append(_open(row, keys[row.sealed_with], endpoint))
    if not found:
        raise SecretLost("no key that is set opens its secret")
    return found


def headers(message_id: str, unix_seconds: int, body: bytes, secrets: Iterable[bytes]) -> dict[str, str]:
    """What proves that a message is ours and how old it is: signatures are apart by a space."""
    signed = f"{message_id}.{unix_seconds}.".encode() + body
    made = [base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(unix_seconds),
        "webhook-signature": " ".join(f"v1,{each}" for each in made),
    }


def reseal() -> int:
    """Seal every secret under the first key, so that the others can be taken away; how many."""
    keys, count = _keys(), 0
    if not keys:
        return 0
    newest, key = next(iter(keys.items()))
    for row in WebhookSecret.objects.exclude(sealed_with=newest).select_related("endpoint"):
        if row.sealed_with in keys:
            secret = _open(row, keys[row.sealed_with], row.endpoint)
            sealed = seal.seal(key, secret, _place(row.endpoint))
            WebhookSecret.objects.filter(pk=row.pk).update(sealed=sealed, sealed_with=newest)
            count += 1
    return count


def _open(row: WebhookSecret, key: bytes, endpoint: WebhookEndpoint) -> bytes:
    try:
        return seal.unseal(key, bytes(row.sealed), _place(endpoint))
    except seal.Unopened as error:
        raise SecretLost(str(error)) from error


def _keys() -> dict[str, bytes]:
    """By what names them, the one that seals first."""
    found = {}
    for text in settings.WEBHOOK_KEYS:
        key = HKDF(SHA256(), seal.KEY_BYTES, salt=None, info=b"fairlead webhooks").derive(text.encode())
        found[seal.fingerprint(key)[:_FINGERPRINT_DIGITS]] = key
    return found


def _place(endpoint: WebhookEndpoint) -> bytes:
    return f"webhook secret of {endpoint.public_id} of {endpoint.organization_id}".encode()
