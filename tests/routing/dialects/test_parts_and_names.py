"""What a request may not ask in other words: escapes, cases, parts of messages, tools without a type."""

from __future__ import annotations

import pytest

from aggregator.lib.errors import Refusal
from routing.dialects.openai_request import read_request
from tests.routing.dialects.test_openai_requests import HELLO, read, refused

INLINE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 3000}}


def said(*parts):
    return [{"role": "user", "content": list(parts)}]


def test_a_text_that_looks_like_an_image_is_counted_as_text():
    text = {"type": "text", "text": "data:image " + "word " * 30_000}

    assert read(messages=said(INLINE, text)).prompt_tokens > 50_000
    assert read(messages=said(INLINE)).prompt_tokens < 2000


@pytest.mark.parametrize(
    "written",
    [
        rb'{"type":"file","file":{"file\u005fid":"file-1"}}',
        rb'{"type":"input\u005faudio","input\u005faudio":{"data":"A","format":"wav"}}',
        rb'{"type":"document","source":{"type":"file","file_id":"file-1"}}',
        rb'{"type":"tool_result","content":[{"type":"file","file":{"FILE_ID":"file-1"}}]}',
        rb'{"image_embeds":"AAAA"}',
    ],
)
def test_a_part_is_known_however_it_is_written(written):
    with pytest.raises(Refusal) as caught:
        read_request(b'{"model":"a/b","messages":[{"role":"user","content":[' + written + b"]}]}")

    assert (caught.value.error_type, caught.value.param) == ("unsupported_parameter", "messages")


@pytest.mark.parametrize(
    "image",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}},
        {"type": "image_url", "image_url": "file:///etc/passwd"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,A", "URL": "http://10.0.0.1/"}},
        {"image_url": {"url": "https://example.com/a.png"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
    ],
)
def test_an_image_by_address_is_for_somebody_to_fetch(image):
    assert read(messages=said(INLINE, image)).needs == {"vision", "remote_media"}


def test_an_image_in_the_request_is_not_and_a_document_is_a_need():
    document = {
        "type": "file",
        "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
    }

    assert read(messages=said(INLINE)).needs == {"vision"}
    assert read(messages=said(document)).needs == {"files"}


def test_an_earlier_answers_audio_and_a_provider_s_cache_are_stored_there():
    audio = {"role": "assistant", "audio": {"id": "audio_1"}}

    assert refused(messages=[*HELLO, audio]).param == "messages"
    assert refused(messages=[{"role": "cache", "content": "cache_id=1"}]).param == "messages"
    assert read(messages=[*HELLO, {"role": "assistant", "content": "x", "audio": None}])


def test_a_content_that_is_no_list_of_objects_is_a_clear_error():
    assert refused(messages=[{"role": "user", "content": [1]}]).param == "messages"


@pytest.mark.parametrize("name", ["Service_Tier", "serviceTier", "\u017fervice_tier", "Store"])
def test_a_closed_field_is_closed_in_any_case(name):
    assert refused(**{name: "priority"}).param == name
    assert read(**{name: None})


@pytest.mark.parametrize("name", ["Model", "maxTokens", "Max_Tokens", "N", "Messages"])
def test_what_money_depends_on_is_not_said_a_second_time_in_another_case(name):
    assert "it is written" in refused(**{name: 7}).message


@pytest.mark.parametrize(
    "tool",
    [
        {"google_search": {}},
        {"googleSearch": {}, "function": {"name": "f"}},
        {"type": "function", "Type": "web_search", "function": {"name": "f"}},
    ],
)
def test_a_tool_without_a_type_may_be_one_that_the_provider_runs(tool):
    assert refused(tools=[tool]).param == "tools"


def test_caching_for_an_hour_has_a_price_that_no_usage_tells():
    hour, minutes = {"type": "ephemeral", "ttl": "1h"}, {"type": "ephemeral", "ttl": "5m"}
    text = {"type": "text", "text": "long"}

    assert refused(messages=said({**text, "cache_control": hour})).param == "messages"
    assert refused(cache_control=hour).param == "cache_control"
    assert refused(tools=[{"type": "function", "cache_control": hour}]).param == "tools"
    for mark in (minutes, {"type": "ephemeral"}, None):
        assert read(messages=said({**text, "cache_control": mark}), cache_control=mark)


@pytest.mark.parametrize(
    "fields",
    [
        {
            "store": False,
            "metadata": {"a": "b"},
            "user": "u",
            "safety_identifier": "x",
            "service_tier": "auto",
        },
        {
            "prediction": {"type": "content", "content": "x"},
            "reasoning": {"effort": "low"},
            "verbosity": "low",
        },
        {"prompt_cache_key": "k", "prompt_cache_retention": "24h", "parallel_tool_calls": False},
        {"functions": [{"name": "f"}], "function_call": "auto"},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"},
        {"tools": [{"type": "custom", "custom": {"name": "f"}}], "modalities": ["text"], "audio": None},
        {
            "chat_template_kwargs": {"enable_thinking": False},
            "thinking": {"type": "enabled"},
            "extra_body": {},
        },
        {"stream_options": {"include_usage": True}, "guided_json": {}, "top_k": 4, "logit_bias": {"1": 2}},
    ],
)
def test_what_honest_customers_send_every_day_goes_through(fields):
    assert read(**fields).body.keys() >= fields.keys()
