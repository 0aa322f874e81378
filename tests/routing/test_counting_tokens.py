"""Our own count of tokens, for calls whose provider states none."""

from __future__ import annotations

import pytest

from routing.core import tokencount


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("hello world", 2), ("Grüße aus Köln", 5), ("<|endoftext|>", 7), ("日本語のテキスト", 6)],
)
def test_it_is_that_of_the_vocabulary(text, tokens):
    assert tokencount.count(text) == tokens


def test_a_text_of_more_than_two_hundred_thousand_tokens_is_counted():
    assert tokencount.count("\u0e4e\u10a0" * 150_000) > 200_000


def test_half_a_surrogate_pair_is_counted_like_any_odd_character():
    assert tokencount.count("a\ud800b") == tokencount.count("a?b")
    assert tokencount.count("x" * 400_000 + "\ud800") == tokencount.count("x" * 400_000)


def test_past_its_bound_it_estimates():
    assert tokencount.count(" word" * 80_000 + "é" * 1000) == 80_000 + 500
