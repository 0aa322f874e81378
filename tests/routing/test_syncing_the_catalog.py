from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from aggregator.lib import kv
from billing import prices
from routing import snapshot, sync
from routing.models import CatalogVersion, Endpoint, Model, Provider
from tests.routing.test_catalog_files import GOOD

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "acme.toml").write_text(GOOD)
    return tmp_path


@pytest.fixture
def acme_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_API_KEY", "simulated")


def run(folder: Path) -> str:
    out = io.StringIO()
    call_command("sync_catalog", folder=folder, stdout=out, stderr=out)
    return out.getvalue()


def test_the_whole_catalog_loads_and_a_second_sync_changes_nothing(settings, monkeypatch: pytest.MonkeyPatch):
    settings.SANDBOX_BASE_URL = "http://127.0.0.1:18080"
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    first = sync.sync()
    counted = CatalogVersion.objects.get().number
    with CaptureQueriesContext(connection) as asked:
        second = sync.sync()

    assert len(asked) < 30  # a start of the product waits for it: none for each endpoint
    assert not first.refused and len(first.changes) > 100
    assert second.changes == [] and CatalogVersion.objects.get().number == counted
    listing = snapshot.load()
    assert {"sandbox/meridian", "sandbox/flaky"} <= set(listing.endpoints)
    assert "openai/gpt-5" in listing.models and "openai/gpt-5" not in listing.endpoints


def test_the_command_says_what_changed_and_then_that_nothing_did(folder: Path):
    assert run(folder).splitlines() == [
        "provider acme: new",
        "model acme/one: new",
        "endpoint acme:acme/one: new",
        "price acme:acme/one: 1 / 2 from catalog",
        "The catalog is up to date: 4 changes.",
    ]
    assert run(folder) == "The catalog is up to date: nothing changed.\n"


def test_a_bad_file_is_one_line_and_nothing_is_written(folder: Path):
    (folder / "bolt.toml").write_text("name = 1")

    with pytest.raises(CommandError, match=r"^bolt.toml: name: must be a text, not 1$"):
        run(folder)

    assert not Provider.objects.exists()


def test_a_change_of_the_file_reaches_the_row_and_a_new_price_is_a_new_row(folder: Path, acme_is_on: None):
    run(folder)
    old = prices.current()["acme:acme/one"]
    (folder / "acme.toml").write_text(GOOD.replace('"One"', '"Two"').replace('input = "1"', 'input = "1.5"'))

    assert run(folder).splitlines()[:2] == [
        "model acme/one: name",
        "price acme:acme/one: 1.5 / 2 from catalog",
    ]
    new = snapshot.load().endpoints["acme/one"][0].price
    assert Model.objects.get().name == "Two"
    assert new.id != old.id and new.rates.input == 1500


def test_what_an_operator_changed_survives_a_sync(folder: Path):
    run(folder)
    model = Model.objects.get()
    model.auto, model.name = False, "Ours"
    sync.save_edit(model, ["auto", "name"])
    (folder / "acme.toml").write_text(GOOD.replace('"One"', '"Two"').replace("8000", "9000"))

    assert "model acme/one: context_length" in run(folder)
    model.refresh_from_db()
    assert (model.auto, model.name, model.context_length, model.held) == (
        False,
        "Ours",
        9000,
        ["auto", "name"],
    )

    model.held = []
    sync.save_edit(model, ["held"])
    assert "model acme/one: name, auto" in run(folder)


def test_a_disabled_row_stays_disabled(folder: Path, acme_is_on: None):
    run(folder)
    assert "acme/one" in snapshot.load().endpoints
    endpoint = Endpoint.objects.get()
    endpoint.enabled = False
    sync.save_edit(endpoint, ["enabled"])
    run(folder)

    assert "acme/one" not in snapshot.load().endpoints


def test_a_model_that_no_file_names_any_more_is_retired_and_may_come_back(folder: Path, acme_is_on: None):
    run(folder)
    (folder / "acme.toml").write_text(GOOD.replace("acme/one", "acme/two"))
    assert "endpoint acme:acme/one: retired" in run(folder)
    assert set(snapshot.load().models) == {"acme/two"}

    (folder / "acme.toml").write_text(GOOD)
    assert "model acme/one: retired" in run(folder)
    assert set(snapshot.load().models) == {"acme/one"}


def test_a_model_without_a_price_is_refused_with_a_line(folder: Path):
    listed = 'price_list = "openai/no-such-model"'
    (folder / "acme.toml").write_text(GOOD.replace('prices = { input = "1", output = "2" }', listed))

    assert "acme:acme/one is not listed: the price list does not know openai/no-such-model" in run(folder)
    assert not Model.objects.exists()


def test_a_provider_is_on_when_its_key_is_set(folder: Path, monkeypatch: pytest.MonkeyPatch):
    run(folder)
    assert "acme/one" not in snapshot.load().endpoints

    monkeypatch.setenv("ACME_API_KEY", "secret-key")
    provider = snapshot.load().endpoints["acme/one"][0].provider
    assert (provider.base_url, provider.api_key) == ("https://api.acme.invalid/v1", "secret-key")
    assert "secret-key" not in repr(provider)

    monkeypatch.setenv("ACME_BASE_URL", "http://10.0.0.1:9/v1/")
    assert snapshot.load().endpoints["acme/one"][0].provider.base_url == "http://10.0.0.1:9/v1"


def test_facts_of_an_endpoint_reach_the_listing(folder: Path, acme_is_on: None):
    provider = 'env_prefix = "ACME"\nregion = "eu"\ndata_policy = "no-training"\nparameters = ["seed"]'
    model = 'endpoint_context = 4000\nquantization = "fp8"\nmax_output = 1000'
    second = GOOD[GOOD.index("[[models]]") :].replace("acme/one", "acme/two")
    (folder / "acme.toml").write_text(
        GOOD.replace('env_prefix = "ACME"', provider).replace("max_output = 1000", model)
        + second
        + 'data_policy = "may-train"\n'
    )
    run(folder)
    assert run(folder) == "The catalog is up to date: nothing changed.\n"

    listing = snapshot.load()
    (one,), (two,) = listing.endpoints["acme/one"], listing.endpoints["acme/two"]
    assert (one.context_length, one.quantization, one.parameters) == (4000, "fp8", {"seed"})
    assert (one.provider.region, one.provider.data_policy) == ("eu", "no-training")
    assert (two.context_length, two.quantization) == (8000, "unknown")
    assert (two.provider.region, two.provider.data_policy) == ("eu", "may-train")


def test_a_server_that_needs_no_key_is_on_when_its_address_is_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    (folder / "acme.toml").write_text(
        GOOD.replace('env_prefix = "ACME"', 'env_prefix = "ACME"\nkeyless = true')
    )
    run(folder)
    assert "acme/one" not in snapshot.load().endpoints

    monkeypatch.setenv("ACME_BASE_URL", "http://127.0.0.1:11434/v1")
    provider = snapshot.load().endpoints["acme/one"][0].provider
    assert (provider.base_url, provider.api_key) == ("http://127.0.0.1:11434/v1", snapshot.NO_KEY)

    monkeypatch.setenv("ACME_API_KEY", "set-all-the-same")
    assert snapshot.load().endpoints["acme/one"][0].provider.api_key == "set-all-the-same"


def test_a_provider_whose_address_is_the_accounts_own_is_on_when_both_are_set(
    folder: Path, acme_is_on: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    (folder / "acme.toml").write_text(GOOD.replace('base_url = "https://api.acme.invalid/v1"', ""))
    run(folder)
    assert "acme/one" not in snapshot.load().endpoints
    assert "it has a key, but ACME_BASE_URL does not say its address" in caplog.text

    monkeypatch.setenv("ACME_BASE_URL", "https://own.acme.invalid/v1")
    assert snapshot.load().endpoints["acme/one"][0].provider.base_url == "https://own.acme.invalid/v1"


def test_sandbox_providers_are_on_where_the_sandbox_is(settings):
    sync.sync()
    settings.SANDBOX_BASE_URL = ""
    assert "sandbox/meridian" not in snapshot.load().endpoints

    settings.SANDBOX_BASE_URL = "http://127.0.0.1:18080"
    providers = {endpoint.provider.base_url for endpoint in snapshot.load().endpoints["sandbox/meridian"]}
    assert providers == {"http://127.0.0.1:18080/sandbox-deep/v1", "http://127.0.0.1:18080/sandbox-steady/v1"}


def test_the_version_moves_with_every_change_and_only_then(folder: Path):
    run(folder)
    listing = snapshot.load()
    assert snapshot.version() == listing.version

    run(folder)
    assert snapshot.version() == listing.version

    sync.save_edit(Model.objects.get(), [])
    assert snapshot.version() != listing.version


def test_a_redis_that_lost_the_version_is_told_again(folder: Path):
    run(folder)
    kv.gate().delete(snapshot.VERSION_KEY, snapshot.COUNTED_KEY)
    counted = CatalogVersion.objects.get().number

    assert snapshot.version() == counted
    kv.gate().set(snapshot.COUNTED_KEY, counted - 1)
    snapshot.heal()
    assert snapshot.version() == counted + 1
    snapshot.heal()
    assert snapshot.version() == counted + 1
