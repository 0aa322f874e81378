"""Server-sent events: whole events out, whatever blocks come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.core.sse import Splitter, comment_of, data_of, event_of, events

ENDS = ("\n\n", "\r\n\r\n", "\r\r")


@st.composite
def split_streams(draw):
    """(the events of a stream, its bytes in blocks)."""
    parts = draw(
        st.lists(
            st.sampled_from(["data: {}", "data: é", ": comment", "event: x\ndata: 1", "id: 7"]), max_size=8
        )
    )
    end = draw(st.sampled_from(ENDS))
    parts = [part.replace("\n", end[: len(end) // 2]) for part in parts]
    whole = "".join(part + end for part in parts).encode()
    cuts = sorted(draw(st.sets(st.integers(0, len(whole)), max_size=12)))
    blocks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    return [part.encode() for part in parts], blocks


@given(split_streams())
def test_any_split_gives_the_same_events(stream):
    expected, blocks = stream
    splitter = Splitter(10_000)

    got = [event for block in blocks for event in events(splitter.feed(block))]

    assert got == expected
    assert splitter.tail == b""


def test_a_partial_event_is_held_back():
    splitter = Splitter(100)

    assert splitter.feed(b"data: 1\n\ndata: 2") == b"data: 1\n\n"
    assert splitter.tail == b"data: 2"
    assert splitter.feed(b"\n") == b""
    assert splitter.feed(b"\n") == b"data: 2\n\n"


def test_an_endless_event_is_refused():
    splitter = Splitter(100)
    splitter.feed(b"x" * 100)

    with pytest.raises(ValueError, match="more than 100 bytes"):
        splitter.feed(b"x")


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: 1", b"1"),
        (b"data:1", b"1"),
        (b"event: x\ndata: 1", b"1"),
        (b"data: 1\ndata: 2", b"1\n2"),
        (b"data: 1\r\ndata: 2", b"1\n2"),
        (b": comment", None),
        (b"id: 7", None),
        (b"data:", b""),
    ],
)
def test_the_data_of_an_event(event, data):
    assert data_of(event) == data


def test_what_we_write_we_can_read():
    block = event_of(b'{"a":1}') + comment_of("waiting") + event_of(b"[DONE]")

    assert [data_of(event) for event in events(block)] == [b'{"a":1}', None, b"[DONE]"]
