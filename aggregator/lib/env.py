"""Settings from the environment, each read once and by type, so that a bad value names its variable.

A secret may also come from a file named by `<NAME>_FILE`, as container platforms mount them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

_ENV = environ.Env()


def text(name: str, default: str | None = None) -> str:
    value = os.environ.get(name, "").strip()
    if value:
        return value
    if default is None:
        raise ImproperlyConfigured(f"{name} must be set")
    return default


def flag(name: str, default: bool = False) -> bool:
    return bool(_ENV.bool(name, default=default)) if os.environ.get(name, "").strip() else default


def whole(name: str, default: int, *, least: int = 0) -> int:
    raw = text(name, str(default))
    try:
        value = int(raw)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {raw!r}") from error
    if value < least:
        raise ImproperlyConfigured(f"{name} must be at least {least}, not {value}")
    return value


def decimal(name: str, default: str) -> Decimal:
    raw = text(name, default)
    try:
        value = Decimal(raw)
    except InvalidOperation as error:
        raise ImproperlyConfigured(f"{name} must be a decimal number, not {raw!r}") from error
    if not value.is_finite() or value < 0:
        raise ImproperlyConfigured(f"{name} must be zero or more, not {raw!r}")
    return value


def choice(name: str, among: Sequence[str], default: str) -> str:
    value = text(name, default)
    if value not in among:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(among)}, not {value!r}")
    return value


def names(name: str, default: Sequence[str] = ()) -> list[str]:
    return [part.strip() for part in text(name, ",".join(default)).split(",") if part.strip()]


def secret(name: str, default: str | None = None) -> str:
    path = os.environ.get(f"{name}_FILE", "").strip()
    if path:
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE cannot be read: {error}") from error
    return text(name, default)
