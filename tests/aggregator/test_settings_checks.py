"""Every contradiction between settings refuses to start, under an id of its own; a doubt is told."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.checks.registry import registry
from pytest_django.fixtures import Settings as Overridden

from aggregator import checks, worker

SOUND: Mapping[str, Any] = {
    "EMBEDDED": False,
    "STRIPE_SECRET_KEY": "rk_live_sound",
    "STRIPE_WEBHOOK_SECRETS": ["whsec_sound"],
    "DEBUG": False,
    "SECRET_KEY": "s" * 40,
    "KEY_PEPPER": "p" * 40,
    "FACTOR_KEYS": ["f" * 40],
    "LOG_MASTER_KEYS": [],
    "WEBHOOK_KEYS": ["w" * 40],
    "EGRESS_PORTS": ["443", "8443"],
    "EMAIL_URL": "smtp://mail.invalid",
    "CRASH_DIR": "",
    "PUBLIC_URL": "https://api.example.com",
    "ALLOWED_HOSTS": ["api.example.com"],
    "SECURE_COOKIES": True,
    "GATE_URL": "redis://127.0.0.1:6379/0",
    "CACHE_URL": "redis://127.0.0.1:6379/1",
    "CELERY_BROKER_URL": "redis://127.0.0.1:6379/2",
    "GATE_TIMEOUT_MS": 50,
    "HOLD_LEASE_SECONDS": 60,
    "GATE_GRACE_SECONDS": 30,
    "CONNECT_SECONDS": 5,
    "FIRST_EVENT_SECONDS": 30,
    "IDLE_SECONDS": 60,
    "TOTAL_SECONDS": 600,
    "DRAIN_SECONDS": 600,
    "KEY_CACHE_SECONDS": 30,
    "KEY_STALE_SECONDS": 3600,
    "MAX_CALLS_PER_ORGANIZATION": 1000,
    "MAX_CALLS_PER_WORKER": 2000,
    "MAX_CONNECTIONS": 10_000,
    "PROVIDER_CONNECTIONS": 1000,
    "POOL_WAIT_SECONDS": 1,
    "MAX_EVENT_BYTES": 1024,
    "MAX_REPLY_BYTES": 4096,
    "STARTING_CREDIT_USD": Decimal(0),
    "IDEMPOTENCY_SECONDS": 86400,
    "IDEMPOTENCY_MOST_BYTES": 1024,
    "IDEMPOTENCY_ORGANIZATION_BYTES": 4096,
}

EMBEDDED = {"EMBEDDED": True, "STRIPE_SECRET_KEY": "sk_test_sound"}

CONTRADICTIONS = [
    ("E001", {"DEBUG": True}),
    ("E002", {"SECRET_KEY": "short"}),
    ("E003", {"KEY_PEPPER": "short"}),
    ("E040", {"FACTOR_KEYS": []}),
    ("E040", {"FACTOR_KEYS": ["f" * 40, "short"]}),
    ("E041", {"FACTOR_KEYS": ["f" * 40, "p" * 40]}),
    ("E004", {"KEY_PEPPER": "s" * 40}),
    ("E004", {"KEY_PEPPER": "s" * 40, **EMBEDDED}),
    ("E006", {"EMAIL_URL": ""}),
    ("E007", {"SECURE_COOKIES": False}),
    ("E008", {"PUBLIC_URL": "http://api.example.com"}),
    ("E009", {"CACHE_URL": "redis://127.0.0.1:6379/0"}),
    ("E009", {"CACHE_URL": "redis://:other@127.0.0.1"}),
    ("E010", {"CELERY_BROKER_URL": "redis://127.0.0.1/0"}),
    ("E011", {"HOLD_LEASE_SECONDS": 3, "GATE_GRACE_SECONDS": 2, "GATE_TIMEOUT_MS": 1500}),
    ("E012", {"FIRST_EVENT_SECONDS": 601}),
    ("E012", {"IDLE_SECONDS": 601}),
    ("E012", {"CONNECT_SECONDS": 601}),
    ("E013", {"MAX_EVENT_BYTES": 8192}),
    ("E014", {"STARTING_CREDIT_USD": Decimal(10_000_000)}),
    ("E015", {"SPOOL_DIR": "/dev/null/spool"}),
    ("E017", {"CRASH_DIR": "crashes"}),
    ("E018", {"KEY_STALE_SECONDS": 29}),
    ("E019", {"MAX_CALLS_PER_ORGANIZATION": 2001}),
    ("E020", {"MAX_CONNECTIONS": 1999}),
    ("E021", {"DRAIN_SECONDS": 599}),
    ("E016", {"ALLOWED_HOSTS": ["127.0.0.1", "localhost"]}),
    ("E022", {"IDEMPOTENCY_SECONDS": 60, "HOLD_LEASE_SECONDS": 61}),
    ("E023", {"IDEMPOTENCY_MOST_BYTES": 8192}),
    ("E024", {"GATE_GRACE_SECONDS": 60}),
    ("E025", {"POOL_WAIT_SECONDS": 30}),
    ("E026", {"STRIPE_WEBHOOK_SECRETS": []}),
    ("E026", {"STRIPE_WEBHOOK_SECRETS": [], **EMBEDDED}),
    ("E027", {"STRIPE_WEBHOOK_SECRETS": ["whsec_one", "two"]}),
    ("E028", {"STRIPE_SECRET_KEY": ""}),
    ("E030", {"STRIPE_SECRET_KEY": "pk_live_sound"}),
    ("E030", {"STRIPE_SECRET_KEY": "pk_test_sound", "EMBEDDED": True}),
    ("E031", {"EMBEDDED": True}),
    ("E050", {"EGRESS_PORTS": ["443", "https"]}),
    ("E050", {"EGRESS_PORTS": ["0"]}),
    ("E051", {"WEBHOOK_KEYS": ["w" * 40, "short"]}),
    ("E052", {"WEBHOOK_KEYS": ["w" * 40, "p" * 40]}),
    ("W003", {"STRIPE_SECRET_KEY": "rk_test_sound"}),
    ("W001", {"PROVIDER_CONNECTIONS": 2000}),
]


@pytest.fixture
def sound(settings: Overridden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Overridden:
    """Settings of a production that nothing is wrong with."""
    monkeypatch.delenv("SANDBOX_BASE_URL", raising=False)
    monkeypatch.delenv("STRIPE_API_BASE", raising=False)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 65_536))
    for name, value in SOUND.items():
        setattr(settings, name, value)
    settings.SPOOL_DIR = tmp_path / "spool"
    return settings


def _ids() -> list[str]:
    return [str(message.id).removeprefix("fairlead.") for message in checks.contradictions(None)]


def test_sound_settings_are_accepted(sound: Overridden) -> None:
    assert _ids() == []


@pytest.mark.parametrize(("number", "wrong"), CONTRADICTIONS)
def test_a_contradiction_is_refused(sound: Overridden, number: str, wrong: dict[str, Any]) -> None:
    for name, value in wrong.items():
        setattr(sound, name, value)

    assert _ids() == [number]


def test_a_sandbox_in_production_is_refused(sound: Overridden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_BASE_URL", "http://127.0.0.1:18080")

    assert _ids() == ["E005"]


def test_a_simulated_stripe_in_production_is_refused(
    sound: Overridden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIPE_API_BASE", "http://127.0.0.1:18081")

    assert _ids() == ["E029"]


def test_too_few_open_files_for_the_connections_are_told(
    sound: Overridden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 10_000))

    assert _ids() == ["W002"]


def test_the_embedded_default_may_be_lax(sound: Overridden) -> None:
    for name, value in EMBEDDED.items():
        setattr(sound, name, value)
    sound.DEBUG = True
    sound.SECRET_KEY, sound.KEY_PEPPER, sound.EMAIL_URL = "a", "b", ""

    assert _ids() == []


def test_the_checks_run_with_all_others() -> None:
    assert checks.contradictions in registry.get_checks()


def test_a_start_tells_what_might_surprise_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EMBEDDED", "1")
    monkeypatch.setenv("PROVIDER_CONNECTIONS", "2000")

    assert worker.verified() > 0
    assert "fairlead.W001" in capsys.readouterr().err
