from __future__ import annotations

from pathlib import Path

import pytest
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
            "ttft_ms": "100",
            "tokens_per_second": "50",
        },
    )

    assert answer.status_code == 302, answer.context["adminform"].form.errors
    endpoint.refresh_from_db()
    assert (endpoint.upstream_name, endpoint.held) == ("one-2027", ["upstream_name"])
    assert snapshot.version() != before
