"""Any re-chunking of any valid stream, with any line ends, gives the customer the same, in bounded memory."""

from __future__ import annotations

import itertools
import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing.core.failures import Failure
from routing.dialects import openai
from routing.dialects.openai_stream import Reader

TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
# A line's end and the blank line's; CR and then LF would be one.
ENDS = [pair for pair in itertools.product(("\n", "\r\n", "\r"), repeat=2) if pair != ("\r", "\n")]
USAGE = {"prompt_tokens": 10, "completion_tokens": 5}


@st.composite
def streams(draw):
    """The events of a valid stream, each without its end."""
    spaced = draw(st.booleans())
    separators = (", ", ": ") if spaced else (",", ":")
    inline = draw(st.booleans())

    def event(delta, finish=None, **more):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        data = {"id": "up-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}
        text = json.dumps(data, ensure_ascii=False, separators=separators)
        lines = [f"data:{'' if draw(st.integers(0, 9)) == 0 else ' '}{text}"]
        if draw(st.integers(0, 9)) == 0:
            lines.insert(0, draw(st.sampled_from([": comment", "event: message", "id: 7", "retry: 1"])))
        return "\n".join(lines)

    said = draw(st.lists(TEXTS, max_size=6))
    found = [event({"role": "assistant", "content": ""})]
    found += [event({"content": text}) for text in said]
    found += [": ping"] * draw(st.integers(0, 2))
    found.append(event({}, "stop", **({"usage": USAGE} if inline else {})))
    if not inline:
        tail = {"id": "up-1", "model": "m", "choices": [], "usage": USAGE}
        found.append("data: " + json.dumps(tail, separators=separators))
    return "".join(said), [*found, "data: [DONE]"]


def read(blocks):
    reader = Reader(generation_id="gen-1", model="a/s", provider="P", choices=1, most_event_bytes=100_000)
    reader._created = 1
    out = b"".join(reader.feed(block) for block in blocks)
    reader.end()
    return reader, out + reader.last({"cost": 1})


def events_of(out):
    """What the customer reads: neither the borders of blocks nor comments count."""
    assert out.endswith(b"data: [DONE]\n\n") and b"\r" not in out
    found = [line[6:] for line in out.split(b"\n") if line.startswith(b"data: ")]
    found += [line[5:] for line in out.split(b"\n") if line.startswith(b"data:{")]
    return [json.loads(each) for each in found if each != b"[DONE]"]


def rechunked(chance, whole):
    size = chance.choice([0, 0, 1, 2, 3, 7, 64])
    if size:
        return [whole[at : at + size] for at in range(0, len(whole), size)]
    cuts = sorted(chance.sample(range(1, len(whole)), 20))
    return [whole[a:b] for a, b in itertools.pairwise([0, *cuts, len(whole)])]


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(streams(), st.sampled_from(ENDS), st.booleans(), st.integers(0, 2**32))
def test_any_rechunking_of_any_valid_stream_gives_the_same(stream, ends, bom, seed):
    """Ten of each: 5,000 in all."""
    said, events = stream
    mark = "\ufeff" if bom else ""
    whole = (mark + "".join(event.replace("\n", ends[0]) + "".join(ends) for event in events)).encode()
    _, expected = read(["".join(event + "\n\n" for event in events).encode()])
    chance = random.Random(seed)

    for _ in range(10):
        reader, out = read(rechunked(chance, whole))

        assert events_of(out) == events_of(expected)
        assert reader.text() == said
        assert reader.usage is not None and (reader.usage.prompt, reader.usage.completion) == (10, 5)
        assert (reader.finish_reason, reader.upstream_id) == ("stop", "up-1")


def chunk(content="", finish=None, **more):
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    data = {"id": "up-1", "model": "m", "choices": [choice], **more}
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def begun(**bounds):
    given_bounds = {"most_event_bytes": 10_000, **bounds}
    reader = Reader(generation_id="gen-1", model="a/s", provider="P", choices=1, **given_bounds)
    reader.feed(chunk("a"))
    return reader


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([chunk("b"), b"data: {", b"}\n\n", b"\r\n"])))
)
def test_noise_is_a_failure_or_nothing_and_never_another_error(blocks):
    reader = begun()
    try:
        for block in blocks:
            reader.feed(block).decode()
    except Failure as failure:
        assert failure.kind in ("malformed", "server_error")


def test_an_error_that_is_named_by_its_event_is_one():
    with pytest.raises(Failure) as failed:
        begun().feed(b'event: error\ndata: {"message":"boom"}\n\n')

    assert failed.value.kind == "server_error"


@pytest.mark.parametrize("broken", [b"\xff", b"\xc3", b"\xed\xa0\x80"])
def test_what_is_no_text_is_not_passed_on(broken):
    with pytest.raises(Failure) as failed:
        begun().feed(chunk("word").replace(b"word", b"wo" + broken))

    assert failed.value.kind == "malformed"


def test_events_after_the_end_are_not_passed_on():
    reader = begun()
    out = reader.feed(chunk("", "stop") + b"data: [DONE]\n\n" + chunk("stray") + b"data: nonsense\n\n")

    assert out == b"" and b"stray" not in reader.last({})


def test_a_stream_that_goes_on_after_its_end_is_a_failure_and_kept_in_bounded_memory():
    reader = begun()
    reader.feed(chunk("", "stop"))
    with pytest.raises(Failure):
        for _ in range(1000):
            reader.feed(chunk("more"))

    assert reader._held_bytes < 11_000


def test_a_stream_longer_than_an_answer_may_be_is_a_failure():
    reader = begun(most_bytes=200_000)
    with pytest.raises(Failure):
        for _ in range(10_000):
            reader.feed(chunk("x" * 100))

    assert reader.content_bytes < 400_000


@pytest.mark.parametrize("body", [b'{"id":"\xff","choices":[]}', b'{"choices":' + b"[" * 100_000])
def test_a_reply_that_is_no_text_or_too_deep_is_malformed(body):
    with pytest.raises(Failure) as failed:
        openai.read_reply(body)

    assert failed.value.kind == "malformed"


@pytest.mark.parametrize("kind", ["embedding", "list", 5, {}])
def test_a_reply_of_another_kind_is_malformed(kind):
    with pytest.raises(Failure) as failed:
        openai.read_reply(json.dumps({"object": kind, "choices": []}).encode())

    assert failed.value.kind == "malformed"


@pytest.mark.parametrize("kind", ["chat.completion", "chat.completion.chunk", "", None])
def test_a_reply_that_names_its_kind_or_none_is_read(kind):
    assert openai.read_reply(json.dumps({"object": kind, "choices": []}).encode()).usage is None


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        ("7", 7),
        ("1.2", 2),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 9999 07:28:00 GMT", 3600),
        ("999999999", 3600),
        ("9" * 5000, None),
        ("-1", None),
        ("Wed, 21 Oct 2026", None),
    ],
)
def test_a_stated_time_to_wait_is_bounded(stated, seconds):
    assert openai.read_failure(429, b"{}", stated).retry_after == seconds


def test_a_time_to_wait_may_be_stated_as_a_date():
    until = datetime.now(tz=UTC) + timedelta(seconds=30)
    stated = until.strftime("%a, %d %b %Y %H:%M:%S GMT")

    assert 20 <= openai.read_failure(429, b"{}", stated).retry_after <= 30


@pytest.mark.parametrize("status", [201, 202, 204, 301, 307])
def test_a_redirect_or_a_success_without_an_answer_is_the_providers_fault(status):
    failure = openai.read_failure(status, b"", None)

    assert (failure.kind, failure.permanent) == ("malformed", False)


@pytest.mark.parametrize("each_apart", [True, False])
@pytest.mark.parametrize("spaced", [True, False])
def test_a_character_in_two_halves_goes_through(each_apart, spaced):
    """As a server in JavaScript cuts it; the customer puts it together again."""
    separators = (", ", ": ") if spaced else (",", ":")

    def event(delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        data = {"id": "up-1", "model": "m", "choices": [choice]}
        return b"data: " + json.dumps(data, separators=separators).encode() + b"\n\n"

    said = ["\ud83d", "\ude00 and \\ud83d", "\U0001f600"]
    blocks = [event({"content": piece}) for piece in said] + [event({}, "stop"), b"data: [DONE]\n\n"]

    _, out = read(blocks if each_apart else [b"".join(blocks)])

    chunks = [json.loads(part[6:]) for part in out.split(b"\n\n") if part and part != b"data: [DONE]"]
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks[:-2]] == said
    assert {chunk["id"] for chunk in chunks} == {"gen-1"}


def test_half_a_character_in_a_plain_answer_does_not_lose_the_rest():
    message = {"role": "assistant", "content": "cut in \ud83d"}
    body = {"id": "up-1", "choices": [{"index": 0, "message": message, "finish_reason": "length"}]}

    reply = openai.read_reply(json.dumps(body).encode())

    assert reply.text() == "cut in \ufffd" and reply.finish_reason == "length"
    shown = json.loads(openai.write_reply(reply, {"id": "gen-1"}))
    assert shown["choices"][0]["message"]["content"] == "cut in \ufffd"


@pytest.mark.parametrize("body", [b'{"choices": "\\ud83"}', b'{"choices": "\\ud83d', b"\\ud83d"])
def test_what_is_no_json_stays_none_when_halves_are_mended(body):
    with pytest.raises(Failure) as raised:
        openai.read_reply(body)
    assert raised.value.kind == "malformed"
