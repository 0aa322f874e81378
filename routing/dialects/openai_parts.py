"""The parts of messages in the `openai` dialect: what they show, and what they may not. Sans-I/O.

They are decoded, not searched for words: a name may be written with escapes, and a text may quote one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import msgspec
from msgspec import Raw

from aggregator.lib.errors import Refusal
from routing.dialects.openai_closed import PRICE, STATE, refusal, refuse_long_caching

REMOTE_MEDIA, FILES = "remote_media", "files"
"""What a request needs when somebody is to fetch media for it, or to read a document."""

_PLAIN = frozenset({"type", "text"})
_NOTHING = (b"null", b'""', b"[]", b"{}")
_STORED = frozenset({"file_id", "vector_store_id", "container_id", "cache_id"})
_UNPRICED = frozenset(
    {
        *("input_audio", "audio_url", "audio", "video_url", "input_video", "video"),
        *("image_embeds", "audio_embeds", "document_url", "file_url", "pdf_url"),
    }
)
_IMAGES = frozenset({"image_url", "input_image", "image"})
_parts = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode
_list = msgspec.json.Decoder(list[Raw]).decode


class Message(Protocol):
    role: str
    content: Raw
    audio: Raw


@dataclass(slots=True)
class Shown:
    """What messages hold beside text."""

    images: int = 0
    image_bytes: int = 0
    """Of images that are written out in the request, as base64."""
    remote: bool = False
    """Media that are named by an address, for the provider to fetch."""
    files: bool = False

    @property
    def needs(self) -> list[str]:
        found = ((self.images, "vision"), (self.remote, REMOTE_MEDIA), (self.files, FILES))
        return [name for is_there, name in found if is_there]


def read_parts(messages: Iterable[Message]) -> Shown:
    """Raises Refusal 400 for what is stored at a provider, what has no price, and what is no part."""
    shown = Shown()
    for message in messages:
        if message.role == "cache":
            raise refusal("messages", STATE, "A message of the role `cache`")
        if bytes(message.audio) not in (b"", *_NOTHING):
            raise refusal("messages", STATE, "`audio` of an earlier answer")
        if _start(message.content) != b"[":
            continue
        try:
            parts = _parts(message.content)
        except msgspec.ValidationError as error:
            raise Refusal(
                "invalid_request", "`messages`: a content is a text or a list of objects.", param="messages"
            ) from error
        for part in parts:
            if not part.keys() <= _PLAIN:
                _read(part, shown)
    return shown


def _read(part: dict[str, Raw], shown: Shown) -> None:
    kind = _text(part.get("type"))
    if kind in _UNPRICED:
        raise refusal("messages", PRICE, f"A part of the type {kind!r}")
    _refuse_inside(part)
    held = [part[name] for name in part if name.casefold() in _IMAGES]
    if held or kind in _IMAGES:
        for image in held or (None,):
            _count(image, shown)
    if kind in ("file", "input_file") or "file" in part:
        shown.files = True


def _count(held: Raw | None, shown: Shown) -> None:
    """An image is `"data:…"`, or an object whose `url` is; whatever else is for somebody to fetch."""
    shown.images += 1
    if held is not None and _start(held) == b"{":
        inside = _object(held)
        held = inside.get("url")
        shown.remote = shown.remote or any(name != "url" and name.casefold() == "url" for name in inside)
    if held is None or _start(held, 6) != b'"data:':
        shown.remote = True
    elif _start(held, 11) == b'"data:image':
        shown.image_bytes += len(memoryview(held))


def _refuse_inside(found: dict[str, Raw]) -> None:
    for name, raw in found.items():
        folded = name.casefold()
        if folded in _STORED and bytes(raw) not in _NOTHING:
            raise refusal("messages", STATE, f"`{name}`")
        if folded in _UNPRICED and bytes(raw) not in _NOTHING:
            raise refusal("messages", PRICE, f"A part of the type {name!r}")
        if folded == "cache_control":
            refuse_long_caching("messages", raw)
        _refuse_within(raw)


def _refuse_within(raw: Raw) -> None:
    first = _start(raw)
    if first == b"{":
        _refuse_inside(_object(raw))
    elif first == b"[":
        for each in _list(raw):
            _refuse_within(each)


def _start(raw: Raw, length: int = 1) -> bytes:
    """Without a copy of the whole."""
    return bytes(memoryview(raw)[:length])


def _text(raw: Raw | None) -> str:
    return msgspec.json.decode(raw, type=str) if raw is not None and _start(raw) == b'"' else ""
