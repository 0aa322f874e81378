"""What is sealed opens with its key, in its place, as it was; and in no other way."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.lib import seal

KEY, PLACE = seal.make_key(), b"acme gen-1"


@given(clear=st.binary(max_size=2000), place=st.binary(max_size=60))
def test_what_was_sealed_opens(clear, place):
    assert seal.unseal(KEY, seal.seal(KEY, clear, place), place) == clear


def test_another_key_another_place_or_another_byte_opens_nothing():
    sealed = seal.seal(KEY, b"canary", PLACE)

    for key, text, place in (
        (seal.make_key(), sealed, PLACE),
        (KEY, sealed, b"acme gen-2"),
        (KEY, sealed, b"globex gen-1"),
        (KEY, sealed[:-1], PLACE),
        (KEY, b"", PLACE),
        *(
            (KEY, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], PLACE)
            for at in range(len(sealed))
        ),
    ):
        with pytest.raises(seal.Unopened):
            seal.unseal(key, text, place)


def test_the_same_text_is_never_sealed_alike_and_its_words_are_not_to_be_seen():
    first, second = seal.seal(KEY, b"canary" * 9, PLACE), seal.seal(KEY, b"canary" * 9, PLACE)

    assert first != second and b"canary" not in first


def test_a_fingerprint_names_a_key_and_is_no_part_of_it():
    assert seal.fingerprint(KEY) == seal.fingerprint(bytes(KEY)) != seal.fingerprint(seal.make_key())
    assert len(seal.fingerprint(KEY)) == 64 and seal.fingerprint(KEY)[:16] not in KEY.hex()


def test_a_key_is_read_from_either_alphabet_and_only_whole():
    key = bytes(range(224, 256))
    assert seal.key_of(base64.b64encode(key).decode()) == key
    assert seal.key_of(base64.urlsafe_b64encode(key).decode().rstrip("=")) == key
    for wrong in ("", "short", base64.b64encode(key + b"x").decode(), "!" * 44):
        with pytest.raises(ValueError):
            seal.key_of(wrong)
