"""What the environment says of a provider goes into the head of every request: what cannot is refused."""

from __future__ import annotations

import pytest

from routing import snapshot
from routing.models import Provider

KEY, URL = "sk-good", "https://api.acme.invalid/v1"


def provider():
    return Provider(slug="acme", name="Acme", dialect="openai", base_url=URL, env_prefix="ACME", quirks=[])


@pytest.mark.parametrize(
    "base_url",
    [URL, "http://127.0.0.1:8000", "http://[::1]:8000/v1", "https://acme.invalid/a/b"],
)
def test_a_provider_with_a_good_address_and_key_is_on(monkeypatch, base_url):
    monkeypatch.setenv("ACME_API_KEY", KEY + "\n")  # as a file ends
    monkeypatch.setenv("ACME_BASE_URL", base_url)
    assert snapshot._provider(provider()).base_url == base_url


@pytest.mark.parametrize("key", ["a\r\nX-Evil: 1", "a\nb", "a b", "schl\u00fcssel", "a\x7fb"])
def test_a_key_that_is_no_header_turns_its_provider_off_and_is_not_shown(monkeypatch, caplog, key):
    monkeypatch.setenv("ACME_API_KEY", key)
    assert snapshot._provider(provider()) is None
    assert "a provider is off" in caplog.text
    assert key not in caplog.text and repr(key)[1:-1] not in caplog.text


@pytest.mark.parametrize(
    "base_url",
    [
        "https://user:secret@acme.invalid/v1",
        "ftp://acme.invalid/v1",
        "acme.invalid/v1",
        "https:///v1",
        "https://acme.invalid:99999/v1",
        "https://acme.invalid:x/v1",
        "http://[::1/v1",
        "https://acme.invalid/v1 HTTP/1.1\r\nX: y",
        "https://acme.invalid/v1?a=b",
        "https://\u00e4.invalid/v1",
    ],
)
def test_an_address_that_is_none_turns_its_provider_off(monkeypatch, base_url):
    monkeypatch.setenv("ACME_API_KEY", KEY)
    monkeypatch.setenv("ACME_BASE_URL", base_url)
    assert snapshot._provider(provider()) is None
