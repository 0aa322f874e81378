"""Requests of the `openai` dialect: what of them is the gateway's own, and what they may not ask."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from aggregator.lib.errors import Refusal
from routing.core import asked
from routing.core.preferences import ANY, MaxPrice, Preferences, Wished
from routing.dialects import openai_closed
from routing.dialects.openai_request import read_request

HELLO = [{"role": "user", "content": "hello"}]


def read(*, session="", **fields):
    body = {"model": "author/slug", "messages": HELLO, **fields}
    return read_request(json.dumps({k: v for k, v in body.items() if v is not ...}).encode(), session=session)


def refused(**fields):
    with pytest.raises(Refusal) as caught:
        read(**fields)
    assert caught.value.status == 400
    return caught.value


def test_a_price_with_a_huge_exponent_is_cut_before_its_digits_fill_the_memory():
    body = b'{"model":"auto","messages":[{"role":"user","content":"x"}],%b}'

    bounds = b'"provider":{"max_price":{"prompt":1e-900000000,"request":"0.30000000000000004"}}'
    most = read_request(body % bounds).providers.max_price
    assert most == MaxPrice(Decimal(0), None, Decimal("0.3")) and len(str(most)) < 200
    for written in (b"1e-900000000", b"0e900000000"):
        with pytest.raises(Refusal, match="above zero"):
            read_request(body % (b'"max_cost":' + written))


# ── Which providers ──────────────────────────────────────────────────────────────────────────────


def test_a_request_that_asks_nothing_has_no_preferences():
    assert read().providers == ANY
    assert read(provider=None).providers == read(provider={}).providers == ANY


def test_every_field_of_provider_is_read():
    said = {
        "order": ["Groq", "together"],
        "only": ["groq", "together", "openai"],
        "ignore": ["openai"],
        "allow_fallbacks": False,
        "require_parameters": True,
        "data_collection": "deny",
        "zdr": True,
        "quantizations": ["fp8", "bf16"],
        "sort": {"by": "latency", "partition": "none"},
        "max_price": {"prompt": "1.25", "completion": 10.1, "request": 0},
        "preferred_min_throughput": 50,
        "preferred_max_latency": {"p50": 0.5, "p99": 3},
    }

    assert read(provider=said).providers == Preferences(
        order=("groq", "together"),
        only=frozenset({"groq", "together", "openai"}),
        ignore=frozenset({"openai"}),
        allow_fallbacks=False,
        require_parameters=True,
        no_collection=True,
        zdr=True,
        quantizations=frozenset({"fp8", "bf16"}),
        sort="latency",
        across_models=True,
        max_price=MaxPrice(Decimal("1.25"), Decimal("10.1"), Decimal(0)),
        min_throughput=Wished(p50=50),
        max_latency=Wished(p50=0.5, p99=3),
    )


def test_a_price_is_read_as_it_was_written():
    body = (
        b'{"model":"a/b","messages":[{"role":"user","content":""}],"provider":{"max_price":{"prompt":0.1}}}'
    )

    assert read_request(body).providers.max_price == MaxPrice(prompt=Decimal("0.1"))


@pytest.mark.parametrize(
    ("provider", "param"),
    [
        ("groq", "provider"),
        ({"order": "groq"}, "provider.order"),
        ({"only": [1]}, "provider.only[0]"),
        ({"allow_fallbacks": "no"}, "provider.allow_fallbacks"),
        ({"data_collection": "never"}, "provider.data_collection"),
        ({"quantizations": ["fp7"]}, "provider.quantizations"),
        ({"sort": "exacto"}, "provider.sort"),
        ({"max_price": {"prompt": -1}}, "provider.max_price.prompt"),
        ({"max_price": {"completion": "1e9"}}, "provider.max_price.completion"),
        ({"max_price": {"completion": "NaN"}}, "provider.max_price.completion"),
        ({"preferred_min_throughput": -1}, "provider.preferred_min_throughput"),
        ({"preferred_max_latency": "1 s"}, "provider.preferred_max_latency"),
    ],
)
def test_a_wrong_wish_is_a_400_that_names_the_field(provider, param):
    refusal = refused(provider=provider)

    assert (refusal.error_type, refusal.param) == ("invalid_request", param)


@pytest.mark.parametrize(
    ("provider", "param"),
    [
        ({"enforce_distillable_text": True}, "provider.enforce_distillable_text"),
        ({"options": {"groq": {"service_tier": "flex"}}}, "provider.options"),
    ],
)
def test_a_demand_that_cannot_be_met_is_refused_and_not_forgotten(provider, param):
    refusal = refused(provider=provider)

    assert (refusal.error_type, refusal.param) == ("unsupported_parameter", param)


def test_unknown_fields_of_provider_are_let_be():
    assert read(provider={"a_field_of_tomorrow": 1}).providers == ANY


# ── Which models ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model", "models", "expected"),
    [
        ("a/b", ["c/d", "e/f"], ["a/b", "c/d", "e/f"]),
        (..., ["c/d", "e/f"], ["c/d", "e/f"]),
        ("a/b", ["a/b", "c/d", "c/d"], ["a/b", "c/d"]),
        ("openrouter/auto", ["a/b"], ["auto", "a/b"]),
    ],
)
def test_models_are_tried_in_order_and_once(model, models, expected):
    chat = read(model=model, models=models)

    assert [chat.model, *chat.fallback_models] == expected


def test_a_request_without_any_model_is_refused():
    assert refused(model=...).param == refused(model=..., models=[]).param == "model"


@pytest.mark.parametrize(
    ("variant", "sort", "free"),
    [("nitro", "throughput", False), ("floor", "price", False), ("free", None, True)],
)
def test_a_variant_says_how_endpoints_are_sorted(variant, sort, free):
    chat = read(model=f"a/b:{variant}", models=[f"c/d:{variant}"])

    assert (chat.model, chat.fallback_models) == ("a/b", ("c/d",))
    assert (chat.providers.sort, chat.free_only) == (sort, free)


def test_what_provider_says_goes_before_a_variant():
    assert read(model="a/b:nitro", provider={"sort": "price"}).providers.sort == "price"
    assert read(model="a/b:nitro", provider={"order": ["groq"]}).providers.sort is None


def test_unknown_and_mixed_variants_are_refused():
    assert ":online" in refused(model="a/b:online").message
    assert refused(model="a/b:nitro", models=["c/d"]).param == "models"


def test_auto_may_be_narrowed_by_our_field_or_by_the_plugin():
    plugins = [{"id": "auto-router", "allowed_models": ["c/*"]}, {"id": "web", "enabled": False}]

    assert read(allowed_models=["a/b", "c/*"], plugins=plugins).allowed_models == ("a/b", "c/*")


@pytest.mark.parametrize(
    "plugin", [{"id": "web"}, {"id": "file-parser"}, {"id": "auto-router", "excluded_models": ["a/b"]}]
)
def test_plugins_that_do_something_else_are_refused(plugin):
    assert refused(plugins=[plugin]).error_type == "unsupported_parameter"


def test_retries_are_read_and_bounded():
    assert read().num_retries is None
    assert read(num_retries=0).num_retries == 0
    assert refused(num_retries=-1).param == "num_retries"


# ── What tells requests apart ────────────────────────────────────────────────────────────────────


def test_a_conversation_is_told_by_its_session_or_by_how_it_begins():
    system = {"role": "system", "content": "Be brief."}
    turns = [*HELLO, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Go on."}]

    first, later = read(messages=[system, *HELLO]), read(messages=[system, *turns])
    assert first.conversation == later.conversation != read(messages=HELLO).conversation
    assert first.conversation[:1] == b"h"

    named = {read(session_id="s").conversation, read(session="s").conversation}
    assert named == {read(prompt_cache_key="s", messages=turns).conversation}
    assert read(session_id="s", session="t").conversation in named
    assert named.pop()[:1] == b"s"


def test_what_an_endpoint_may_not_honour_is_noted():
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}

    chat = read(temperature=0.1, tools=[], stop=None, response_format=schema, max_tokens=4, user="u")

    assert chat.parameters == {"temperature", "response_format", "structured_outputs"}
    assert not read(response_format={"type": "text"}).parameters


# ── What is closed on our keys ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", sorted(openai_closed.CLOSED))
def test_what_changes_the_price_or_reaches_stored_state_is_refused_by_its_name(name):
    refusal = refused(**{name: "x-1"})

    assert (refusal.error_type, refusal.param) == ("unsupported_parameter", name)
    assert openai_closed.CLOSED[name] in refusal.message


@pytest.mark.parametrize("name", sorted(openai_closed.CLOSED))
@pytest.mark.parametrize("nothing", [None, False, [], ""])
def test_and_passes_where_it_says_nothing(name, nothing):
    assert read(**{name: nothing}).model == "author/slug"


def test_an_empty_object_turns_a_search_on():
    assert refused(web_search_options={}).param == "web_search_options"


def test_a_name_is_known_however_it_is_written():
    body = rb'{"model":"a/b","messages":[{"role":"user","content":"x"}],"service\u005ftier":"priority"}'

    with pytest.raises(Refusal) as caught:
        read_request(body)

    assert caught.value.param == "service_tier"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "image_url", "image_url": {"file_id": "file-1"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
    ],
)
def test_parts_of_messages_that_are_stored_there_or_have_no_price_are_refused(part):
    messages = [{"role": "user", "content": [{"type": "text", "text": "look"}, part]}]

    assert refused(messages=messages).param == "messages"


def test_a_stored_file_is_found_however_its_name_is_written():
    part = rb'{"type":"file","file":{"file\u005fid":"file-1"}}'

    with pytest.raises(Refusal, match="file_id"):
        read_request(b'{"model":"a/b","messages":[{"role":"user","content":[%b]}]}' % part)


@pytest.mark.parametrize("text", ['"file_id"', "file_id", '{"file_id": "x"}', "input_audio"])
def test_people_may_talk_about_them(text):
    assert read(messages=[{"role": "user", "content": text}]).model == "author/slug"
    assert read(messages=[{"role": "user", "content": [{"type": "text", "text": text}]}])


@pytest.mark.parametrize("kind", ["web_search", "code_interpreter", "openrouter:web_search", "mcp"])
def test_tools_that_the_provider_runs_are_refused(kind):
    assert refused(tools=[{"type": kind}]).param == "tools"


def test_none_of_the_gateways_own_fields_is_closed():
    assert not asked.FIELDS & openai_closed.CLOSED.keys()
