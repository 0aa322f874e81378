"""What a provider needs said otherwise than OpenAI says it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from billing.core.pricing import parse_price
from routing.core.listing import Endpoint, Model, Provider
from routing.dialects import openai
from routing.dialects.openai_request import read_request


def written(quirks: set[str], **asked: Any) -> dict[str, Any]:
    """The body that a provider with these quirks would be sent."""
    body = {"model": "a/b", "messages": [{"role": "user", "content": "hi"}], **asked}
    chat = read_request(json.dumps(body).encode())
    provider = Provider("p", "P", "openai", "http://127.0.0.1:1/v1", "key", frozenset(quirks))
    model = Model("a/b", "B", 8000, 1000, "standard", False, frozenset(), 0)
    price = parse_price(1, {"input": "1", "output": "1"})
    endpoint = Endpoint("p:a/b", provider, model, "b-1", 1000, price, 0.1, 50.0)
    sent: dict[str, Any] = json.loads(openai.write_request(chat, endpoint, max_tokens=None))
    return sent


def test_without_a_quirk_a_stream_is_asked_for_its_usage_and_the_seed_keeps_its_name():
    sent = written(set(), stream=True, seed=7, max_tokens=5)

    assert sent["stream_options"] == {"include_usage": True}
    assert (sent["seed"], sent["max_tokens"], sent["model"]) == (7, 5, "b-1")


@pytest.mark.parametrize("asked", [{}, {"stream_options": {"include_usage": True}}])
def test_a_provider_that_refuses_stream_options_is_sent_none(asked: dict[str, Any]):
    assert "stream_options" not in written({"no_stream_options"}, stream=True, **asked)


def test_a_seed_goes_under_the_name_that_the_provider_knows():
    sent = written({"random_seed"}, seed=7)

    assert sent["random_seed"] == 7 and "seed" not in sent
    assert "random_seed" not in written({"random_seed"})


def test_the_bound_on_an_answer_goes_under_the_name_that_the_provider_knows():
    sent = written({"max_completion_tokens"}, max_tokens=5)

    assert sent["max_completion_tokens"] == 5 and "max_tokens" not in sent


def test_a_provider_that_picks_hosts_is_told_the_price_that_we_charge_and_not_what_the_customer_bounds():
    sent = written({"picks_hosts"}, provider={"max_price": {"prompt": 99}, "sort": "latency"})

    assert sent["provider"] == {"max_price": {"prompt": 1, "completion": 1}}
    assert "provider" not in written(set(), provider={"sort": "latency"})
