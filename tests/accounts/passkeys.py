"""A passkey as allauth keeps one, without a device: for tests that only look at it."""

from __future__ import annotations

import functools
import json
from typing import Any

from allauth.mfa.models import Authenticator
from cryptography.hazmat.primitives.asymmetric import ec
from fido2.cose import ES256
from fido2.utils import websafe_encode
from fido2.webauthn import Aaguid, AttestationObject, AttestedCredentialData, AuthenticatorData

from accounts.models import User


def add(user: User, name: str) -> Authenticator:
    data = {"name": name, "credential": _credential()}
    return Authenticator.objects.create(user=user, type=Authenticator.Type.WEBAUTHN, data=data)


@functools.cache
def _credential() -> dict[str, Any]:
    key = ES256.from_cryptography_key(ec.generate_private_key(ec.SECP256R1()).public_key())
    attested = AttestedCredentialData.create(Aaguid.NONE, b"1" * 16, key)
    shown = AuthenticatorData.create(b"2" * 32, 0x45, 0, attested)
    client = {"type": "webauthn.create", "challenge": "AAAA", "origin": "http://testserver"}
    return {
        "type": "public-key",
        "id": websafe_encode(b"1" * 16),
        "rawId": websafe_encode(b"1" * 16),
        "clientExtensionResults": {"credProps": {"rk": True}},
        "response": {
            "clientDataJSON": websafe_encode(json.dumps(client).encode()),
            "attestationObject": websafe_encode(AttestationObject.create("none", shown, {})),
        },
    }
