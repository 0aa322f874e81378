from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from billing.core.pricing import parse_price
from routing import catalog
from routing.core import pricelist
from routing.sandbox.fleet import OFFERS

FILES = sorted(catalog.FOLDER.glob("*.toml"))
NOW = datetime(2026, 11, 20, tzinfo=UTC)
GOOD = """
name = "Acme"
base_url = "https://api.acme.invalid/v1"
env_prefix = "ACME"

[[models]]
slug = "acme/one"
name = "One"
upstream_name = "one-2026"
context_length = 8000
max_output = 1000
class = "standard"
auto = true
capabilities = ["tools"]
released = 2026-01-01
ttft_ms = 100
tokens_per_second = 50
prices = { input = "1", output = "2" }
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_loads_and_every_model_in_it_has_a_price(path: Path):
    provider, listed = catalog.load_file(path)

    assert provider.slug == path.stem
    for _, endpoint in listed:
        stated = endpoint.prices or pricelist.stated(endpoint.price_list or "", now=NOW)
        rates = parse_price(1, stated).rates
        assert rates.input > 0 and rates.output > 0 or provider.keyless, endpoint.slug
        assert not (provider.keyless and (rates.input or rates.output)), endpoint.slug


@pytest.fixture(scope="module")
def files() -> catalog.Catalog:
    return catalog.load()


def test_the_catalog_is_wide_and_open_models_have_several_providers(files: catalog.Catalog):
    real = [slug for slug, provider in files.providers.items() if not provider.sandbox]
    models = {endpoint.model for endpoint in files.endpoints.values() if endpoint.provider in real}
    served = Counter(
        endpoint.model
        for endpoint in files.endpoints.values()
        if endpoint.provider in real and not files.providers[endpoint.provider].keyless
    )

    assert len(real) >= 25 and len(models) >= 200
    assert len([model for model, providers in served.items() if providers >= 2]) >= 15
    assert served["openai/gpt-oss-120b"] >= 10 and served["meta-llama/llama-3.3-70b-instruct"] >= 5


def test_each_file_says_in_its_first_line_what_is_particular_of_its_provider():
    for path in FILES:
        assert re.match(r"# \w.{20,}", path.read_text()), path.name


def test_the_whole_catalog_agrees_with_itself(files: catalog.Catalog):

    assert {"openai/gpt-5", "openai/gpt-4o-mini", "sandbox/meridian"} <= set(files.models)
    assert not any(model.auto for slug, model in files.models.items() if "fault" in slug or "flaky" in slug)


def test_the_sandbox_and_the_catalog_state_the_same_prices_and_paces():
    files = catalog.load()
    ours = {
        (endpoint.provider, endpoint.upstream_name): (
            parse_price(0, endpoint.prices or {}).rates,
            endpoint.ttft_ms,
            endpoint.tokens_per_second,
        )
        for endpoint in files.endpoints.values()
        if files.providers[endpoint.provider].sandbox
    }
    theirs = {}
    for name, offer in OFFERS.items():
        if offer.provider == "sandbox-strange":  # in no file: tests list what they need of it
            continue
        prices = {"input": str(offer.input), "output": str(offer.output)}
        if offer.cache_read is not None:
            prices["cache_read"] = str(offer.cache_read)
        theirs[name] = parse_price(0, prices).rates, offer.ttft_ms, offer.tokens_per_second

    assert ours == theirs


def test_the_sandbox_imports_nothing_of_what_it_checks():
    for path in (catalog.FOLDER.parent / "sandbox").glob("*.py"):
        for module in re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(), re.MULTILINE):
            assert not module.startswith(("billing", "accounts", "aggregator", "django")), (path.name, module)
            assert not module.startswith("routing") or module.startswith("routing.sandbox"), (
                path.name,
                module,
            )


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('name = "Acme"', "", "name: must be said"),
        (
            '"https://api.acme.invalid/v1"',
            '"ftp://acme"',
            "base_url: 'ftp://acme' does not have the right form",
        ),
        ('"https://api.acme.invalid/v1"', '"https://acme.invalid/v1/"', "base_url:"),
        ('env_prefix = "ACME"', 'env_prefix = "acme"', "env_prefix:"),
        ('env_prefix = "ACME"', 'env_prefix = "ACME"\nbaseurl = "x"', "baseurl: is not a field"),
        ('env_prefix = "ACME"', 'env_prefix = "ACME"\nquirks = ["odd"]', "quirks: 'odd' is not one of"),
        ('env_prefix = "ACME"', 'env_prefix = "ACME"\ndialect = "latin"', "dialect: 'latin' is not one of"),
        ('"acme/one"', '"one"', "slug: 'one' does not have the right form"),
        ("max_output = 1000", "max_output = 9000", "acme/one: max_output: is more than context_length"),
        ("max_output = 1000", 'max_output = "1000"', "max_output: must be a whole number"),
        ('class = "standard"', 'class = "huge"', "class: 'huge' is not one of frontier, small, standard"),
        ("auto = true", "", "auto: must be said"),
        ("released = 2026-01-01", 'released = "soon"', "released: must be a date"),
        ('["tools"]', '["mind"]', "capabilities: 'mind' is not one of"),
        ('input = "1"', "input = 1.5", "prices.input: must be a decimal in quotes"),
        ('input = "1", ', "", "prices: cannot be read: the price of input is not stated"),
        ('input = "1"', 'input = "-1"', "prices: cannot be read: the price of input is out of bounds"),
        ('input = "1"', 'input = "one"', "prices: cannot be read"),
        ('prices = { input = "1", output = "2" }', "", "prices: must be stated"),
        (
            "max_output = 1000",
            "max_output = 1000\nendpoint_context = 9000",
            "endpoint_context: is more than context_l",
        ),
        (
            "max_output = 1000",
            "max_output = 1000\nendpoint_context = 500\nendpoint_max_output = 501",
            "endpoint_max_output: is more than what the model and the endpoint have room for",
        ),
        (
            "max_output = 1000",
            'max_output = 1000\nquantization = "fp7"',
            "quantization: 'fp7' is not one of bf16,",
        ),
        (
            "max_output = 1000",
            'max_output = 1000\nparameters = ["mood"]',
            "parameters: 'mood' is not one of",
        ),
        (
            "max_output = 1000",
            'max_output = 1000\ndata_policy = "none"',
            "acme/one: data_policy: 'none' is not",
        ),
        (
            'env_prefix = "ACME"',
            'env_prefix = "ACME"\nparameters = ["mood"]',
            "parameters: 'mood' is not one",
        ),
        ('env_prefix = "ACME"', 'env_prefix = "ACME"\nkeyless = 1', "keyless: must be true or false"),
        ("[[models]]", "[models]", "models: must be a list of tables"),
        ('name = "Acme"', 'name = "Acme', "Illegal character"),
    ],
)
def test_a_bad_file_is_one_error_that_names_the_file_and_the_field(
    tmp_path: Path, before: str, after: str, said: str
):
    assert before in GOOD
    (tmp_path / "acme.toml").write_text(GOOD.replace(before, after, 1))

    with pytest.raises(catalog.CatalogError) as caught:
        catalog.load(tmp_path)

    assert str(caught.value).startswith("acme.toml: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_disagree_on_a_model_are_refused(tmp_path: Path):
    (tmp_path / "acme.toml").write_text(GOOD)
    (tmp_path / "bolt.toml").write_text(GOOD.replace("context_length = 8000", "context_length = 9000"))

    with pytest.raises(
        catalog.CatalogError, match=r"bolt.toml: acme/one: context_length differs from acme.toml"
    ):
        catalog.load(tmp_path)


def test_what_a_file_leaves_out_is_the_models_own_or_unknown(tmp_path: Path):
    (tmp_path / "acme.toml").write_text(GOOD)
    endpoint = catalog.load(tmp_path).endpoints["acme:acme/one"]

    assert (endpoint.max_context, endpoint.max_output) == (None, 1000)
    assert (endpoint.quantization, endpoint.parameters, endpoint.data_policy) == ("unknown", None, "")


def test_an_endpoint_may_have_less_room_and_a_models_parameters_stand_before_the_providers(tmp_path: Path):
    said = GOOD.replace("max_output = 1000", "max_output = 1000\nendpoint_context = 500")
    second = GOOD[GOOD.index("[[models]]") :].replace("acme/one", "acme/two") + 'parameters = ["stop"]\n'
    said = said.replace('env_prefix = "ACME"', 'env_prefix = "ACME"\nparameters = ["seed"]') + second
    (tmp_path / "acme.toml").write_text(said)
    endpoints = catalog.load(tmp_path).endpoints

    assert (endpoints["acme:acme/one"].max_context, endpoints["acme:acme/one"].max_output) == (500, 500)
    assert endpoints["acme:acme/one"].parameters == {"seed"}
    assert endpoints["acme:acme/two"].parameters == {"stop"}


def test_a_model_listed_twice_in_one_file_is_refused(tmp_path: Path):
    (tmp_path / "acme.toml").write_text(GOOD + GOOD[GOOD.index("[[models]]") :])

    with pytest.raises(catalog.CatalogError, match="slug: listed twice"):
        catalog.load(tmp_path)


def test_a_tiered_price_of_the_list_keeps_each_of_its_thresholds():
    stated = pricelist.stated("openai/gpt-6-luna", now=NOW)

    assert stated == {
        "input": "0.1",
        "output": "0.5",
        "cache_read": "0.01",
        "cache_write_5m": "0.125",
        "tiers": [
            {
                "above": 272000,
                "input": "0.2",
                "output": "0.75",
                "cache_read": "0.02",
                "cache_write_5m": "0.25",
            }
        ],
    }


def test_a_price_of_the_list_is_the_one_in_force_on_that_day():
    assert pricelist.stated("openai/o3", now=datetime(2025, 6, 1, tzinfo=UTC))["input"] == "10"
    assert pricelist.stated("openai/o3", now=NOW)["input"] == "2"


@pytest.mark.parametrize(
    "listed_as",
    [
        "anthropic/claude-sonnet-4-5-fake",
        "cohere/command-r-7-plus",
        "google/gemini-2.5-pro-2099",
        "x-ai/grok-3-x",
    ],
)
def test_a_prefix_in_the_list_does_not_price_another_model(listed_as: str):
    with pytest.raises(pricelist.Unpriced, match="may be another model|does not know"):
        pricelist.stated(listed_as, now=NOW)


def test_what_the_list_does_not_price_is_refused():
    for listed_as in ("openai/no-such-model", "nobody/gpt-5", "openai/whisper-1"):
        with pytest.raises(pricelist.Unpriced):
            pricelist.stated(listed_as, now=NOW)
