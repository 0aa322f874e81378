"""Streams of the `openai` dialect: any split into blocks gives the same; ids, usage and text are right."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.core.failures import Failure
from routing.dialects.openai_stream import Reader

SAID = ["Hello", " wörld", ' "quoted" \\ {brace}', "\n\nnew", " data: [DONE]", "”", " 中文", ""]


def chunk(delta=None, *, finish=None, index=0, spaced=False, **more):
    data = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "upstream-model",
        "choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}],
        **more,
    }
    separators = (", ", ": ") if spaced else (",", ":")
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=separators).encode() + b"\n\n"


def usage_chunk(**more):
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return chunk(usage=usage, **more).replace(
        b'"choices":[{"index":0,"delta":{},"finish_reason":null}]', b'"choices":[]'
    )


def whole_stream(*, spaced=False, finish_in_last=True):
    parts = [chunk({"role": "assistant", "content": ""}, spaced=spaced)]
    parts += [chunk({"content": text}, spaced=spaced, usage=None) for text in SAID]
    parts.append(chunk(finish="stop", spaced=spaced))
    return b"".join([*parts, b": a comment\n\n", usage_chunk(), b"data: [DONE]\n\n"])


def reader(choices=1, most=100_000):
    made = Reader(
        generation_id="gen-1",
        model="author/slug",
        provider="Some One",
        choices=choices,
        most_event_bytes=most,
    )
    made._created = 1
    return made


def run(blocks, choices=1):
    made = reader(choices)
    out = b"".join(made.feed(block) for block in blocks)
    made.end()
    return made, out + made.last({"cost": 1})


def chunks_of(out):
    events = [event.removeprefix(b"data: ") for event in out.split(b"\n\n") if event]
    assert events[-1] == b"[DONE]"
    return [json.loads(event) for event in events[:-1]]


@settings(max_examples=200)
@given(st.data(), st.booleans())
def test_any_split_into_blocks_gives_the_same(data, spaced):
    whole = whole_stream(spaced=spaced)
    _, expected = run([whole])
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=20)))
    blocks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    made, out = run(blocks)

    assert chunks_of(out) == chunks_of(expected)
    assert made.text() == "".join(SAID)
    assert made.usage is not None and (made.usage.prompt, made.usage.completion) == (10, 5)
    assert made.finish_reason == "stop" and made.upstream_id == "chatcmpl-1"


def test_byte_by_byte_is_the_same_bytes_as_event_by_event():
    whole = whole_stream()
    by_event = [part + b"\n\n" for part in whole.split(b"\n\n") if part]

    assert run(by_event)[1] == run([whole[at : at + 1] for at in range(len(whole))])[1]


@pytest.mark.parametrize("ending", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_line_endings_of_every_kind(ending):
    made, out = run([whole_stream().replace(b"\n\n", ending)])

    assert "".join(part["choices"][0]["delta"].get("content", "") for part in chunks_of(out)[:-1]) == "".join(
        SAID
    )
    assert made.text() == "".join(SAID)


@pytest.mark.parametrize("spaced", [False, True])
def test_ids_model_and_provider_are_ours(spaced):
    _, out = run([whole_stream(spaced=spaced)])

    for part in chunks_of(out):
        assert (part["id"], part["model"], part["provider"]) == ("gen-1", "author/slug", "Some One")
    assert b"chatcmpl-1" not in out and b"upstream-model" not in out


def test_a_model_that_is_named_in_the_text_stays_in_the_text():
    said = {"content": 'I am "model":"upstream-model" and "id":"chatcmpl-1"'}
    whole = chunk({"role": "assistant"}) + chunk(said) + chunk(finish="stop") + b"data: [DONE]\n\n"

    _, out = run([whole])

    assert chunks_of(out)[1]["choices"][0]["delta"] == said


def test_ids_that_change_in_mid_stream_are_replaced_as_well():
    other = (
        chunk({"content": "b"}).replace(b"chatcmpl-1", b"chatcmpl-2").replace(b"upstream-model", b"snapshot")
    )
    whole = chunk({"content": "a"}) + other + chunk(finish="stop") + b"data: [DONE]\n\n"

    _, out = run([whole])
    for part in chunks_of(out):
        assert (part["id"], part["model"]) == ("gen-1", "author/slug")


def test_nothing_goes_out_from_the_finish_chunk_on_until_the_call_is_settled():
    made = reader()
    assert made.feed(chunk({"content": "a"}))
    assert made.feed(chunk(finish="stop") + usage_chunk() + b"data: [DONE]\n\n") == b""
    assert made.finished

    last = chunks_of(made.last({"cost": 1}))
    assert last[0]["choices"][0]["finish_reason"] == "stop" and last[1]["usage"] == {"cost": 1}


def test_usage_is_stripped_wherever_it_stands():
    inline = chunk({"content": "b"}, usage={"prompt_tokens": 3, "completion_tokens": 2})
    made, out = run([chunk({"content": "a"}) + inline + chunk(finish="stop") + b"data: [DONE]\n\n"])

    parts = chunks_of(out)
    assert [("usage" in part) for part in parts] == [False, False, False, True]
    assert made.usage is not None and made.usage.prompt == 3


def test_usage_that_grows_counts_as_last_stated():
    stated = [chunk({"content": "x"}, usage={"prompt_tokens": 3, "completion_tokens": n}) for n in (1, 2, 9)]
    made, _ = run([b"".join(stated) + chunk(finish="stop") + b"data: [DONE]\n\n"])

    assert made.usage is not None and made.usage.completion == 9


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": -1, "completion_tokens": 5}, {"prompt_tokens": "5"}, {}, None]
)
def test_usage_that_cannot_be_true_is_none(usage):
    end = usage_chunk().replace(
        b'{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}', json.dumps(usage).encode()
    )
    made, out = run([chunk({"content": "a"}) + chunk(finish="stop") + end + b"data: [DONE]\n\n"])

    assert made.usage is None
    assert chunks_of(out)[-1]["usage"] == {"cost": 1}


def test_all_choices_are_waited_for():
    made = reader(choices=2)
    assert made.feed(chunk({"content": "a"}))
    assert made.feed(chunk(finish="stop"))
    assert made.feed(chunk({"content": "b"}, index=1))
    assert made.feed(chunk(finish="stop", index=1)) == b""
    made.end()


def test_a_stream_that_ends_without_done_but_finished_is_whole():
    made = reader()
    made.feed(chunk({"content": "a"}) + chunk(finish="stop"))
    made.end()
    assert made.finished


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (b'data: {"error": {"message": "no"}}\n\n', "server_error"),
        (b'data: {"id": "x", "choices": [\n\n', "malformed"),
        (b"data: nonsense\n\n", "malformed"),
        (b"data: [1]\n\n", "malformed"),
        (b"data: " + b"x" * 2000, "malformed"),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_errors_and_nonsense_are_failures(broken, kind, begun):
    made = reader(most=1000)
    if begun:
        made.feed(chunk({"content": "a"}))
    with pytest.raises(Failure) as failed:
        made.feed(broken)

    assert failed.value.kind == kind
    assert made.started is begun


def test_a_stream_that_breaks_off_is_a_failure():
    made = reader()
    made.feed(chunk({"content": "a"}))
    with pytest.raises(Failure):
        made.end()


def test_an_error_that_is_null_is_none():
    made, _ = run([chunk({"content": "a"}, error=None) + chunk(finish="stop") + b"data: [DONE]\n\n"])
    assert made.finish_reason == "stop"


def test_comments_before_the_first_event_do_not_start_the_stream():
    made = reader()
    assert made.feed(b": waiting\n\n") == b""
    assert not made.started


def test_the_error_event_is_one_and_typed():
    made = reader()
    made.feed(chunk({"content": "a"}))
    out = made.failed({"error": {"code": 502, "message": "gone"}})

    (event,) = [event for event in out.split(b"\n\n") if event]
    data = json.loads(event.removeprefix(b"data: "))
    assert data["error"]["code"] == 502 and data["choices"][0]["finish_reason"] == "error"
    assert data["id"] == "gen-1"


def test_text_is_kept_in_bounded_memory():
    made = reader()
    made.feed(chunk({"content": "a" * 10}))
    for _ in range(3000):
        made.feed(chunk({"content": "b" * 100}))

    assert made._raw_size < 128 * 1024
    assert made.text() == "a" * 10 + "b" * 300_000
    assert made.events == 3001


def test_tool_calls_and_reasoning_count_as_text():
    calls = [{"index": 0, "function": {"arguments": '{"city":'}}]
    made, _ = run(
        [
            chunk({"reasoning_content": "hm "})
            + chunk({"tool_calls": calls})
            + chunk(finish="tool_calls")
            + b"data: [DONE]\n\n"
        ]
    )
    assert made.text() == 'hm {"city":'


@pytest.mark.parametrize("stated", [10**15, -1, "5", 5.5, True, None, {}, []])
def test_a_usage_that_is_none_is_noted(stated):
    made = reader()
    made.feed(chunk({"content": "x"}) + chunk(usage={"prompt_tokens": 3, "completion_tokens": stated}))

    assert made.usage is None and made.odd_usage == "unreadable"


def test_a_usage_that_shrinks_is_not_the_last_word():
    made = reader()
    for count in (4, 9, 0):
        made.feed(chunk({"content": "x"}, usage={"prompt_tokens": 3, "completion_tokens": count}))

    assert made.usage is not None and made.usage.completion == 9
    assert made.odd_usage == "shrinks"
