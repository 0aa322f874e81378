"""Several keys of ours at one provider: rows name variables, the environment holds the secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from routing import snapshot, sync
from routing.core import listing
from routing.models import ManagedKey, Provider
from tests.routing.test_catalog_files import GOOD

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Provider:
    (tmp_path / "acme.toml").write_text(GOOD)
    sync.sync(tmp_path)
    monkeypatch.setenv("ACME_API_KEY", "first-secret")
    monkeypatch.setenv("ACME_API_KEY_2", "second-secret")
    return Provider.objects.get()


def on() -> listing.Provider | None:
    """The provider as workers have it."""
    endpoints = snapshot.read().endpoints.get("acme/one")
    return endpoints[0].provider if endpoints else None


def test_without_rows_the_key_of_the_environment_stands_alone(acme: Provider):
    provider = on()

    assert provider and (provider.api_key, provider.keys) == ("first-secret", ())


def test_each_row_is_a_key_with_limits_of_its_own(acme: Provider):
    acme.keys.create(name="a", environment="ACME_API_KEY", requests_per_minute=60)
    acme.keys.create(name="b", environment="ACME_API_KEY_2", concurrent=8)
    provider = on()

    assert provider and provider.keys == (
        listing.ManagedKey("a", "first-secret", 60, None),
        listing.ManagedKey("b", "second-secret", None, 8),
    )
    assert provider.api_key == "first-secret"
    assert "secret" not in repr(provider)


def test_the_rows_alone_count_once_there_are_any(acme: Provider):
    key = acme.keys.create(name="b", environment="ACME_API_KEY_2")
    provider = on()
    assert provider and provider.api_key == "second-secret" and len(provider.keys) == 1

    key.enabled = False
    key.save()
    assert on() is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ACME_API_KEY_3", None),
        ("ACME_API_KEY_3", " "),
        ("ACME_API_KEY_3", "two words"),
        ("OTHER_KEY", "of-another"),
    ],
)
def test_a_row_whose_variable_holds_no_key_is_off_and_the_others_serve_on(
    acme: Provider,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variable: str,
    value: str | None,
):
    if value is not None:
        monkeypatch.setenv(variable, value)
    acme.keys.create(name="a", environment="ACME_API_KEY")
    acme.keys.create(name="c", environment=variable)
    provider = on()

    assert provider and [key.name for key in provider.keys] == ["a"]
    said = caplog.text
    assert "a managed key is off" in said and variable in said
    assert value is None or not value.strip() or value not in said


def test_a_sync_leaves_managed_keys_alone(acme: Provider, tmp_path: Path):
    acme.keys.create(name="b", environment="ACME_API_KEY_2", requests_per_minute=60)
    (tmp_path / "acme.toml").write_text(GOOD.replace('name = "Acme"', 'name = "Acme Inc"'))
    sync.sync(tmp_path)

    assert ManagedKey.objects.get().requests_per_minute == 60 and Provider.objects.get().name == "Acme Inc"


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://10.1.2.3/v1", True),
        ("http://[fd00::1]/v1", True),
        ("http://vllm:8000/v1", True),
        ("https://models.internal/v1", True),
        ("https://api.acme.example/v1", False),
        ("https://1.1.1.1/v1", False),
    ],
)
def test_a_server_in_our_own_network_is_known_as_such(
    acme: Provider, monkeypatch: pytest.MonkeyPatch, address: str, near: bool
):
    monkeypatch.setenv("ACME_BASE_URL", address)
    provider = on()

    assert provider and provider.own_network is near
