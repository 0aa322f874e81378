"""A logged call as it is read: messages and answer where they are whole, the wire as it was in any case."""

from __future__ import annotations

import json

from routing.core import transcript
from routing.core.kept import Content, Text


def text(data: bytes, size: int | None = None) -> Text:
    return Text(data, len(data) if size is None else size)


def request(**fields: object) -> Text:
    return text(json.dumps(fields).encode())


def test_messages_and_a_plain_answer_are_read():
    reply = {"choices": [{"index": 0, "message": {"content": "Hello", "reasoning": "They greet."}}]}
    parts = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]
    asked = request(messages=[{"role": "system", "content": "Be kind"}, {"role": "user", "content": parts}])

    sent, told = transcript.sides(Content(asked, text(json.dumps(reply).encode()), False))

    assert [(each.role, each.text) for each in sent.messages] == [
        ("system", "Be kind"),
        ("user", "Look\n[image_url]"),
    ]
    assert [(each.role, each.text) for each in told.messages] == [
        ("reasoning", "They greet."),
        ("assistant", "Hello"),
    ]


def test_a_stream_is_put_together_and_may_break_off_or_hold_any_sign():
    events = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in ("Hel", "lo\u2028there")]
    wire = b": waiting\n\n" + b"".join(
        b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n" for event in events
    )
    stream = text(wire + b'data: {"choices": [{"ind', size=9999)

    (told,) = transcript.sides(Content(None, stream, True))

    assert told.messages[0].text == "Hello\u2028there" and told.cut


def test_what_cannot_be_read_is_shown_as_it_was():
    for odd in (b"[1]", b'{"messages": "none"}', b'{"choices": [5]}', b"\xff\xfe", b'{"messages": [7]}'):
        sent, told = transcript.sides(Content(text(odd), text(odd), False))
        assert sent.wire and told.wire and not told.messages
    (cut,) = transcript.sides(Content(text(b'{"messages": [', size=99), None, False))
    assert (cut.messages, cut.wire, cut.cut) == ((), '{"messages": [', True)
