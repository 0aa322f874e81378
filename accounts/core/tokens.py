"""The text of a key: make, parse, checksum, hash. Pure; a typo is refused here, without a look-up.

    fl_live_<organization>_<secret><check>      fl_mgmt_<organization>_<secret><check>

`organization` is the organization's public id, so the gate's shard is known before any look-up;
`secret` is 32 random base62 characters (190 bits); `check` is the CRC-32 of all that stands before
it, in six base62 characters. Only an HMAC of the whole text is ever stored.
"""

from __future__ import annotations

import hmac
import re
import zlib
from typing import Final, NamedTuple

from aggregator.lib import ids

ORGANIZATION_LENGTH: Final = 12
SECRET_LENGTH: Final = 32
CHECK_LENGTH: Final = 6

_MARKS: Final = {"inference": "live", "management": "mgmt"}
_SCOPES: Final = {mark: scope for scope, mark in _MARKS.items()}
_SHAPE: Final = (
    rf"fl_(live|mgmt)_([0-9A-Za-z]{{{ORGANIZATION_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH + CHECK_LENGTH}}}"
)
_WHOLE: Final = re.compile(_SHAPE)

PATTERN: Final = re.compile(rf"(?<![0-9A-Za-z]){_SHAPE}(?![0-9A-Za-z])")
"""Finds one of our keys inside any text; `match[0]` is the key."""


class Parsed(NamedTuple):
    scope: str
    organization: str
    text: str


class Shown(NamedTuple):
    """As much of a key as may be shown after its creation."""

    prefix: str
    last4: str

    def __str__(self) -> str:
        return f"{self.prefix}…{self.last4}"


def make(scope: str, organization: str) -> str:
    """A new key of this scope for the organization with this public id."""
    body = f"fl_{_MARKS[scope]}_{organization}_{ids.base62(SECRET_LENGTH)}"
    text = body + _check(body)
    parse(text)
    return text


def parse(text: str) -> Parsed:
    """Take a key apart. Raises ValueError when its shape or its checksum is wrong."""
    found = _WHOLE.fullmatch(text)
    if found is None:
        raise ValueError("not the shape of a key")
    if text[-CHECK_LENGTH:] != _check(text[:-CHECK_LENGTH]):
        raise ValueError("the checksum does not fit")
    return Parsed(_SCOPES[found[1]], found[2], text)


def digest(text: str, pepper: str) -> bytes:
    """What is stored in place of the key."""
    return hmac.digest(pepper.encode(), text.encode(), "sha256")


def shown(text: str) -> Shown:
    """The part of a key that people tell it by."""
    return Shown(prefix=text[:12], last4=text[-4:])


def _check(body: str) -> str:
    value = zlib.crc32(body.encode())
    digits = []
    for _ in range(CHECK_LENGTH):
        value, digit = divmod(value, len(ids.BASE62))
        digits.append(ids.BASE62[digit])
    return "".join(reversed(digits))
