from __future__ import annotations

import math
import random
import re

import pytest

from accounts import keys
from accounts.core import tokens
from aggregator.lib import ids
from aggregator.lib.errors import Refusal

ORGANIZATION = "aB3dE6gH9jK2"


def test_a_key_has_its_prefix_its_organization_and_190_random_bits():
    text = tokens.make("inference", ORGANIZATION)

    assert re.fullmatch(r"fl_live_aB3dE6gH9jK2_[0-9A-Za-z]{38}", text)
    assert math.log2(62) * tokens.SECRET_LENGTH >= 190
    assert tokens.parse(text) == ("inference", ORGANIZATION, text)


def test_a_management_key_says_so():
    text = tokens.make("management", ORGANIZATION)

    assert text.startswith("fl_mgmt_")
    assert tokens.parse(text).scope == "management"


@pytest.mark.django_db
def test_every_typo_of_one_character_is_refused_without_a_query(django_assert_num_queries):
    text = tokens.make("inference", ORGANIZATION)
    typos = {
        text[:place] + other + text[place + 1 :]
        for place in range(len(text))
        for other in ids.BASE62 + "_- é"
        if other != text[place]
    }

    with django_assert_num_queries(0):
        for typo in typos:
            with pytest.raises(Refusal) as refused:
                keys.principal(typo)
            assert (refused.value.error_type, refused.value.status) == ("malformed_key", 401)


@pytest.mark.django_db
def test_every_truncation_and_doubling_is_refused_without_a_query(django_assert_num_queries):
    text = tokens.make("management", ORGANIZATION)
    cut = [text[:length] for length in range(len(text))] + [
        text[1:],
        text + "0",
        text * 2,
        f" {text}",
        f"{text}\n",
    ]

    with django_assert_num_queries(0):
        for wrong in cut:
            with pytest.raises(Refusal, match="not a whole API key"):
                keys.principal(wrong)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "text", ["' OR 1=1 --", "fl_live_'; DROP TABLE accounts_key; --", "\x00", "%", "ключ"]
)
def test_what_is_not_a_key_reaches_no_query(text: str, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(Refusal, match="not a whole API key"):
        keys.principal(text)


def test_the_pattern_finds_our_keys_and_nothing_else():
    chance = random.Random(7)
    corpus = "".join(chance.choice(ids.BASE62 + "_-./ \n") for _ in range(1_000_000))
    planted = [tokens.make(scope, ORGANIZATION) for scope in ("inference", "management")]
    text = corpus[:500_000] + f' key="{planted[0]}" ' + corpus[500_000:] + f"?key={planted[1]}&"

    assert [found[0] for found in tokens.PATTERN.finditer(text)] == planted


def test_the_hash_needs_the_pepper_and_the_whole_text():
    text = tokens.make("inference", ORGANIZATION)

    assert len(tokens.digest(text, "one")) == 32
    assert tokens.digest(text, "one") != tokens.digest(text, "two")
    assert tokens.digest(text, "one") != tokens.digest(text[:-1], "one")


def test_only_the_ends_are_shown():
    text = tokens.make("inference", ORGANIZATION)

    assert str(tokens.shown(text)) == f"fl_live_aB3d…{text[-4:]}"
