"""Sealing bytes so that they open with their key and in their place alone: AES-256-GCM.

`about` is the place: whose bytes they are and of what. It is not kept with them; what is moved elsewhere does
not open. Every place has a key of its own, made from the key and `about`, so that however many places share a
key, no key seals more than a few texts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
_VERSION: Final = b"\x01"
_NONCE: Final = 12
_ALPHABET: Final = str.maketrans("-_", "+/")
_LEAST: Final = len(_VERSION) + _NONCE + 16


class Unopened(ValueError):
    """Another key, another place, or other bytes than were sealed."""


def make_key() -> bytes:
    return os.urandom(KEY_BYTES)


def key_of(text: str) -> bytes:
    """A key as a setting writes it, in base64 of either alphabet. Raises ValueError."""
    try:
        key = base64.b64decode(text.translate(_ALPHABET) + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        raise ValueError("it is not written in base64") from error
    if len(key) != KEY_BYTES:
        raise ValueError(f"it has {len(key)} bytes and not {KEY_BYTES}")
    return key


def fingerprint(key: bytes) -> str:
    """64 hexadecimal digits that name a key and tell nothing of it."""
    return hashlib.sha256(b"fingerprint of a sealing key\n" + key).hexdigest()


def seal(key: bytes, clear: bytes, about: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return _VERSION + nonce + AESGCM(_of_place(key, about)).encrypt(nonce, clear, about)


def unseal(key: bytes, sealed: bytes, about: bytes) -> bytes:
    """What was sealed. Raises `Unopened`."""
    if len(sealed) < _LEAST or sealed[:1] != _VERSION:
        raise Unopened("this was not sealed here")
    nonce = sealed[1 : 1 + _NONCE]
    try:
        return AESGCM(_of_place(key, about)).decrypt(nonce, sealed[1 + _NONCE :], about)
    except InvalidTag:
        raise Unopened("it was sealed with another key, or for another place, or it was changed") from None


def _of_place(key: bytes, about: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a sealing key has {KEY_BYTES} bytes")
    return hmac.digest(key, b"place\n" + about, "sha256")
