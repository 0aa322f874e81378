from __future__ import annotations

from pathlib import Path

import pytest
from django.http import HttpResponseRedirect
from django.template.response import TemplateResponse
from django.test import Client
from django.urls import reverse

from accounts.models import User
from routing import snapshot, sync
from routing.models import Endpoint, Model, Provider
from tests.routing.test_catalog_files import GOOD

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def operator(tmp_path: Path) -> Client:
    (tmp_path / "acme.toml").write_text(GOOD)
    sync.sync(tmp_path)
    client = Client()
    client.force_login(
        User.objects.create_superuser(email="operator@example.com", password="a-long-password-1")
    )
    return client


@pytest.mark.parametrize("kind", ["provider", "model", "endpoint"])
def test_an_operator_sees_each_table_and_each_row(operator: Client, kind: str):
    row = {"provider": Provider, "model": Model, "endpoint": Endpoint}[kind].objects.get()

    assert operator.get(reverse(f"admin:routing_{kind}_changelist")).status_code == 200
    assert operator.get(reverse(f"admin:routing_{kind}_change", args=[row.pk])).status_code == 200
    assert operator.get(reverse(f"admin:routing_{kind}_delete", args=[row.pk])).status_code == 403


def test_an_edit_in_the_admin_is_held_and_workers_hear_of_it(operator: Client):
    endpoint = Endpoint.objects.get()
    before = snapshot.version()

    answer = operator.post(
        reverse("admin:routing_endpoint_change", args=[endpoint.pk]),
        {
            "enabled": "on",
            "held": "",
            "upstream_name": "one-2027",
            "max_output": "1000",
            "quantization": "unknown",
            "ttft_ms": "100",
            "tokens_per_second": "50",
        },
    )

    assert answer.status_code == 302, answer.context["adminform"].form.errors
    endpoint.refresh_from_db()
    assert (endpoint.upstream_name, endpoint.held) == ("one-2027", ["upstream_name"])
    assert endpoint.parameters is None and endpoint.max_context is None
    assert snapshot.version() != before


def edited(operator: Client, provider: Provider, *, old: int = 0, **key: str) -> TemplateResponse:
    """The provider's page sent with one managed key, a new one or one of the `old`."""
    answer = operator.post(
        reverse("admin:routing_provider_change", args=[provider.pk]),
        {
            "name": "Acme",
            "dialect": "openai",
            "base_url": provider.base_url,
            "env_prefix": "ACME",
            "enabled": "on",
            "held": "",
            "quirks": "",
            "region": "",
            "data_policy": "",
            "keys-TOTAL_FORMS": "1",
            "keys-INITIAL_FORMS": str(old),
            **{f"keys-0-{name}": value for name, value in key.items()},
        },
    )
    assert isinstance(answer, TemplateResponse | HttpResponseRedirect)
    return answer


def test_an_operator_adds_a_managed_key_by_the_name_of_its_variable_and_workers_hear_of_it(operator: Client):
    provider, before = Provider.objects.get(), snapshot.version()

    answer = edited(
        operator,
        provider,
        name="second",
        environment="ACME_API_KEY_2",
        requests_per_minute="600",
        enabled="on",
    )

    assert answer.status_code == 302
    key = provider.keys.get()
    assert (key.environment, key.requests_per_minute, key.concurrent) == ("ACME_API_KEY_2", 600, None)
    assert snapshot.version() != before
    page = operator.get(reverse("admin:routing_provider_change", args=[provider.pk])).content.decode()
    assert "ACME_API_KEY_2" in page


def test_an_operator_changes_the_limit_of_a_managed_key_and_takes_the_key_away(operator: Client):
    provider = Provider.objects.get()
    key = provider.keys.create(name="second", environment="ACME_API_KEY_2", requests_per_minute=600)
    said = {"id": str(key.pk), "name": "second", "environment": "ACME_API_KEY_2", "enabled": "on"}
    seen = [snapshot.version()]

    assert edited(operator, provider, old=1, **said, requests_per_minute="60").status_code == 302
    key.refresh_from_db()
    assert key.requests_per_minute == 60
    seen.append(snapshot.version())
    assert edited(operator, provider, old=1, **said, DELETE="on").status_code == 302
    assert not provider.keys.exists()
    seen.append(snapshot.version())
    assert seen == sorted(set(seen))


def test_an_endpoint_cannot_have_more_room_than_its_model(operator: Client):
    endpoint = Endpoint.objects.get()
    fields = ("upstream_name", "max_output", "quantization", "ttft_ms", "tokens_per_second")
    said = {"enabled": "on", "held": "", **{name: getattr(endpoint, name) for name in fields}}

    answer = operator.post(
        reverse("admin:routing_endpoint_change", args=[endpoint.pk]), {**said, "max_context": "8001"}
    )

    assert answer.context["adminform"].form.errors == {"max_context": ["It is above the model's own."]}


@pytest.mark.parametrize(
    "variable", ["acme_api_key", "sk-live-secret", "DATABASE_URL", "ACME_BASE_URL", "OTHER_API_KEY"]
)
def test_a_variable_that_is_no_key_of_this_provider_is_refused(operator: Client, variable: str):
    provider, before = Provider.objects.get(), snapshot.version()

    answer = edited(operator, provider, name="second", environment=variable, enabled="on")

    assert answer.status_code == 200 and "environment" in str(
        answer.context["inline_admin_formsets"][0].formset.errors
    )
    assert not provider.keys.exists() and snapshot.version() == before
