"""Second factors: what allauth keeps of them is sealed under a key of its own, and each change is audited."""

from __future__ import annotations

import base64
import functools

from allauth.mfa.adapter import DefaultMFAAdapter
from cryptography.fernet import Fernet, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class Adapter(DefaultMFAAdapter):
    """Seals with the newest of `FACTOR_KEYS`, opens with any of them."""

    def encrypt(self, text: str) -> str:
        return _box(tuple(settings.FACTOR_KEYS)).encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return _box(tuple(settings.FACTOR_KEYS)).decrypt(encrypted_text.encode()).decode()


@functools.cache
def _box(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(_derived(key)) for key in keys])


def _derived(key: str) -> bytes:
    drawn = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"fairlead second factors")
    return base64.urlsafe_b64encode(drawn.derive(key.encode()))
