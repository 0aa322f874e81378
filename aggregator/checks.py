"""Settings that contradict each other, found before anything starts: one id and one sentence for each.

Nothing here asks the database or Redis; gunicorn and `manage.py` run these before they do anything.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as Caution
from django.http.request import validate_host

from aggregator.lib import seal

_LEAST_SECRET = 32
_LEAST_LEASE_BEATS = 3
_MOST_USD = 2**53 // 10**9
_REDIS_PORT = 6379
_PORTS = 1 << 16
_LIVE_KEYS = ("sk_live_", "rk_live_")
_TEST_KEYS = ("sk_test_", "rk_test_")
_OTHER_FILES = 256
"""The spool, PostgreSQL, Redis, code, and a few idle connections to providers."""


@register
def contradictions(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Every contradiction at once, so that nobody repairs them one start at a time."""
    return [
        *_production(),
        *_cookies(),
        *_gate(),
        *_deadlines(),
        *_bounds(),
        *_money(),
        *_stripe(),
        *_spool(),
        *_idempotency(),
        *_logging(),
        *_webhooks(),
    ]


def _production() -> Iterator[CheckMessage]:
    if settings.SECRET_KEY and settings.SECRET_KEY == settings.KEY_PEPPER:
        yield _error(
            "E004", "SECRET_KEY and KEY_PEPPER are the same: each purpose needs a secret of its own."
        )
    if settings.EMBEDDED:
        return
    if settings.DEBUG:
        yield _error(
            "E001", "DEBUG is on, but EMBEDDED is off: error pages would show settings to strangers."
        )
    if len(settings.SECRET_KEY) < _LEAST_SECRET:
        yield _error("E002", f"SECRET_KEY has fewer than {_LEAST_SECRET} characters.")
    if len(settings.KEY_PEPPER) < _LEAST_SECRET:
        yield _error("E003", f"KEY_PEPPER has fewer than {_LEAST_SECRET} characters.")
    if not settings.FACTOR_KEYS or any(len(key) < _LEAST_SECRET for key in settings.FACTOR_KEYS):
        yield _error(
            "E040",
            f"FACTOR_KEYS has no key, or one under {_LEAST_SECRET} characters: "
            "the secrets of second factors would lie open.",
        )
    if {settings.SECRET_KEY, settings.KEY_PEPPER} & set(settings.FACTOR_KEYS):
        yield _error("E041", "FACTOR_KEYS holds SECRET_KEY or KEY_PEPPER: each purpose needs its own secret.")
    if os.environ.get("SANDBOX_BASE_URL", "").strip():
        yield _error(
            "E005", "SANDBOX_BASE_URL is set, but EMBEDDED is off: simulated providers would be sold."
        )
    if settings.CRASH_DIR:
        yield _error("E017", "CRASH_DIR is set, but EMBEDDED is off: processes would be made to die.")
    if not settings.EMAIL_URL:
        yield _error("E006", "EMAIL_URL is not set, but EMBEDDED is off: no code would reach anybody.")
    host = urlsplit(settings.PUBLIC_URL).hostname or ""
    if not validate_host(host, settings.ALLOWED_HOSTS):
        yield _error(
            "E016", f"PUBLIC_URL's host ({host}) is not in ALLOWED_HOSTS: every page would answer 400."
        )


def _cookies() -> Iterator[CheckMessage]:
    secure = urlsplit(settings.PUBLIC_URL).scheme == "https"
    if secure and not settings.SECURE_COOKIES:
        yield _error("E007", "PUBLIC_URL is https, but SECURE_COOKIES is off: sessions would leak over http.")
    if not secure and settings.SECURE_COOKIES:
        yield _error("E008", "SECURE_COOKIES is on, but PUBLIC_URL is not https: nobody could sign in.")


def _gate() -> Iterator[CheckMessage]:
    if _database(settings.GATE_URL) == _database(settings.CACHE_URL):
        yield _error("E009", "GATE_URL and CACHE_URL are one database: clearing the cache would drop holds.")
    if _database(settings.GATE_URL) == _database(settings.CELERY_BROKER_URL):
        yield _error("E010", "GATE_URL and CELERY_BROKER_URL are one database: each needs its own.")
    if settings.HOLD_LEASE_SECONDS * 1000 < _LEAST_LEASE_BEATS * settings.GATE_TIMEOUT_MS:
        yield _error(
            "E011",
            f"HOLD_LEASE_SECONDS is under {_LEAST_LEASE_BEATS} times GATE_TIMEOUT_MS: "
            "a hold would lapse before its renewal could fail and be tried again.",
        )
    if not settings.EMBEDDED and settings.GATE_GRACE_SECONDS >= settings.HOLD_LEASE_SECONDS:
        yield _error(
            "E024",
            f"GATE_GRACE_SECONDS is not less than HOLD_LEASE_SECONDS ({settings.HOLD_LEASE_SECONDS}): "
            "a gate that lost its memory could open when what was reported to it has lapsed again.",
        )


def _deadlines() -> Iterator[CheckMessage]:
    total = settings.TOTAL_SECONDS
    for name in ("CONNECT_SECONDS", "FIRST_EVENT_SECONDS", "IDLE_SECONDS"):
        if getattr(settings, name) > total:
            yield _error(
                "E012", f"{name} is more than TOTAL_SECONDS ({total}), so it would never be reached."
            )
    if settings.POOL_WAIT_SECONDS >= settings.FIRST_EVENT_SECONDS:
        yield _error(
            "E025",
            f"POOL_WAIT_SECONDS is not less than FIRST_EVENT_SECONDS ({settings.FIRST_EVENT_SECONDS}): "
            "waiting for a connection of ours would be held against the provider.",
        )
    if settings.MAX_EVENT_BYTES > settings.MAX_REPLY_BYTES:
        yield _error("E013", "MAX_EVENT_BYTES is more than MAX_REPLY_BYTES, of which an event is a part.")


def _bounds() -> Iterator[CheckMessage]:
    if not settings.EMBEDDED and settings.DRAIN_SECONDS < settings.TOTAL_SECONDS:
        yield _error(
            "E021",
            f"DRAIN_SECONDS is less than TOTAL_SECONDS ({settings.TOTAL_SECONDS}): "
            "every stop would cut calls that are in time.",
        )
    if settings.KEY_STALE_SECONDS < settings.KEY_CACHE_SECONDS:
        yield _error("E018", "KEY_STALE_SECONDS is less than KEY_CACHE_SECONDS, within which nobody asks.")
    if settings.MAX_CALLS_PER_ORGANIZATION > settings.MAX_CALLS_PER_WORKER:
        yield _error(
            "E019",
            "MAX_CALLS_PER_ORGANIZATION is more than MAX_CALLS_PER_WORKER, so it would never be reached.",
        )
    if settings.MAX_CALLS_PER_WORKER > settings.MAX_CONNECTIONS:
        yield _error(
            "E020", "MAX_CALLS_PER_WORKER is more than MAX_CONNECTIONS, of which each call needs one."
        )
    if settings.PROVIDER_CONNECTIONS >= settings.MAX_CALLS_PER_WORKER:
        yield _caution(
            "W001",
            f"PROVIDER_CONNECTIONS is not less than MAX_CALLS_PER_WORKER ({settings.MAX_CALLS_PER_WORKER}): "
            "one provider that hangs may hold every call, also those that another would serve.",
        )
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.MAX_CONNECTIONS + settings.MAX_CALLS_PER_WORKER + _OTHER_FILES
    if files != resource.RLIM_INFINITY and files < needed:
        yield _caution(
            "W002",
            f"a process may open {files} files here, and MAX_CONNECTIONS with MAX_CALLS_PER_WORKER "
            f"may need {needed}.",
        )


def _money() -> Iterator[CheckMessage]:
    if settings.STARTING_CREDIT_USD > _MOST_USD:
        yield _error("E014", f"STARTING_CREDIT_USD is more than a wallet may hold (${_MOST_USD:,}).")


def _stripe() -> Iterator[CheckMessage]:
    """An empty signing secret would let anybody tell us of payments."""
    if settings.STRIPE_SECRET_KEY and not settings.STRIPE_WEBHOOK_SECRETS:
        yield _error(
            "E026",
            "STRIPE_SECRET_KEY is set, but STRIPE_WEBHOOK_SECRETS is empty: anybody could forge a payment.",
        )
    if any(not secret.startswith("whsec_") for secret in settings.STRIPE_WEBHOOK_SECRETS):
        yield _error("E027", "STRIPE_WEBHOOK_SECRETS holds something that is no signing secret (whsec_…).")
    key = settings.STRIPE_SECRET_KEY
    live = key.startswith(_LIVE_KEYS)
    if key and not key.startswith((*_LIVE_KEYS, *_TEST_KEYS)):
        yield _error("E030", "STRIPE_SECRET_KEY is no secret key (sk_… or rk_…): it may not do what we ask.")
    if settings.EMBEDDED:
        if live:
            yield _error(
                "E031",
                "STRIPE_SECRET_KEY moves real money, but EMBEDDED is on: simulated answers would be sold.",
            )
        return
    if not key:
        yield _error("E028", "STRIPE_SECRET_KEY is not set, but EMBEDDED is off: nobody could pay.")
    if os.environ.get("STRIPE_API_BASE", "").strip():
        yield _error("E029", "STRIPE_API_BASE is set, but EMBEDDED is off: a simulated Stripe would be paid.")
    if key.startswith(_TEST_KEYS):
        yield _caution("W003", "STRIPE_SECRET_KEY is a test key: credit is sold, but no real money is paid.")


def _spool() -> Iterator[CheckMessage]:
    """The folder may not be there yet; then the nearest one above it must let us make it."""
    folder = Path(settings.SPOOL_DIR).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        yield _error(
            "E015", f"SPOOL_DIR ({settings.SPOOL_DIR}) cannot be written: settled calls would be lost."
        )


def _logging() -> Iterator[CheckMessage]:
    for number, text in enumerate(settings.LOG_MASTER_KEYS, 1):
        try:
            seal.key_of(text)
        except ValueError as error:
            yield _error("E032", f"LOG_MASTER_KEYS: the key at place {number} is no master key: {error}.")
    if {settings.SECRET_KEY, settings.KEY_PEPPER} & set(settings.LOG_MASTER_KEYS):
        yield _error("E033", "LOG_MASTER_KEYS repeats another secret: each purpose needs one of its own.")


def _webhooks() -> Iterator[CheckMessage]:
    wrong = [text for text in settings.EGRESS_PORTS if not text.isdecimal() or not 0 < int(text) < _PORTS]
    if wrong:
        yield _error("E050", f"EGRESS_PORTS: {', '.join(wrong)}: a port is a number from 1 to {_PORTS - 1}.")
    if settings.EMBEDDED:
        return
    if any(len(key) < _LEAST_SECRET for key in settings.WEBHOOK_KEYS):
        yield _error("E051", f"WEBHOOK_KEYS has a key of fewer than {_LEAST_SECRET} characters.")
    others = {settings.SECRET_KEY, settings.KEY_PEPPER, *settings.FACTOR_KEYS, *settings.LOG_MASTER_KEYS}
    if others & set(settings.WEBHOOK_KEYS):
        yield _error("E052", "WEBHOOK_KEYS repeats another secret: each purpose needs one of its own.")


def _idempotency() -> Iterator[CheckMessage]:
    if settings.IDEMPOTENCY_SECONDS < settings.HOLD_LEASE_SECONDS:
        yield _error(
            "E022",
            "IDEMPOTENCY_SECONDS is under HOLD_LEASE_SECONDS: a key would be forgotten while its call runs.",
        )
    if settings.IDEMPOTENCY_MOST_BYTES > settings.IDEMPOTENCY_ORGANIZATION_BYTES:
        yield _error(
            "E023",
            "IDEMPOTENCY_MOST_BYTES is more than IDEMPOTENCY_ORGANIZATION_BYTES, "
            "so the largest answers would not be kept.",
        )


def _database(url: str) -> tuple[str, str | None, int, str]:
    """Which database a Redis URL names: two spellings of one place are equal."""
    parts: SplitResult = urlsplit(url)
    if parts.scheme == "unix":
        return ("unix", parts.path, 0, parts.query or "0")
    return ("tcp", parts.hostname, parts.port or _REDIS_PORT, parts.path.strip("/") or "0")


def _error(number: str, message: str) -> CheckMessage:
    return Error(message, id=f"fairlead.{number}")


def _caution(number: str, message: str) -> CheckMessage:
    """Not a contradiction: it starts, but not as somebody might expect."""
    return Caution(message, id=f"fairlead.{number}")
