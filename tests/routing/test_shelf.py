"""The public list of models, from a listing."""

from __future__ import annotations

from dataclasses import replace

from billing.core.pricing import parse_price
from routing.core import shelf
from routing.core.listing import Endpoint, Listing, Model, Provider

MODEL = Model(
    "a/m", "M", 100_000, 4000, "standard", True, frozenset({"tools"}), 0, description="For everything."
)


def endpoint(name: str, output: str, **facts: object) -> Endpoint:
    provider = Provider(name, name.title(), "openai", "http://127.0.0.1:1", "key", region="eu")
    price = parse_price(1, {"input": "1", "output": output})
    made = Endpoint(f"{name}:a/m", provider, MODEL, "m", 4000, price, 0.1, 50.0)
    return replace(made, **facts)  # type: ignore[arg-type]


def listed(*endpoints: Endpoint) -> Listing:
    return Listing(1, {"a/m": MODEL}, {"a/m": endpoints})


def shown(*endpoints: Endpoint) -> dict[str, object]:
    (only,) = shelf.models(listed(*endpoints))["data"]
    return dict(only)


def test_the_cheapest_endpoint_speaks_for_the_model():
    model = shown(endpoint("dear", "3"), endpoint("cheap", "2", max_context=50_000, max_output=1000))

    assert model["context_length"] == 100_000
    assert model["top_provider"] == {"context_length": 50_000, "max_completion_tokens": 1000}
    assert model["pricing"]["completion"] == "0.000002"


def test_each_endpoint_shows_its_own_bounds_quantization_and_policy():
    own = endpoint("cheap", "2", max_context=50_000, quantization="fp8")
    policy = replace(own.provider, data_policy="no-training")
    first, second = shown(replace(own, provider=policy), endpoint("dear", "3"))["endpoints"]

    assert (first["context_length"], first["quantization"], first["data_policy"]) == (
        50_000,
        "fp8",
        "no-training",
    )
    assert (second["context_length"], second["quantization"], second["data_policy"]) == (
        100_000,
        "unknown",
        None,
    )
    assert first["region"] == "eu"


def test_supported_is_what_an_endpoint_says_that_it_honours_and_what_is_common_where_one_says_nothing():
    says = endpoint("says", "2", parameters=frozenset({"max_tokens", "top_k"}))

    ours = ["route_preference", "max_cost", "models", "provider"]
    assert shown(says)["supported_parameters"] == ["top_k", "max_tokens", *ours]
    both = shown(says, endpoint("silent", "3"))["supported_parameters"]
    assert {"top_k", "temperature", "tools"} <= set(both) and len(both) == len(set(both))


def test_the_list_is_computed_once_for_a_listing():
    listing = listed(endpoint("one", "2"))

    assert shelf.models(listing) is shelf.models(listing)
    assert shelf.model(listing, "a/m")["data"] == shelf.models(listing)["data"][0]
