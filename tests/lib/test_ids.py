"""Ids that sort by time, and short ones that say nothing."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime

from aggregator.lib import ids


def test_an_id_is_a_version_7_uuid_of_its_millisecond():
    made = ids.uuid7(1_700_000_000_123)

    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert ids.uuid7_time(made) == datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=UTC)


def test_ids_of_later_milliseconds_sort_later():
    assert ids.uuid7(1_000) < ids.uuid7(1_001) < ids.uuid7(1_700_000_000_000)


def test_ids_of_one_millisecond_sort_as_they_were_made():
    """A clock that stands still (a test's, or a machine's) must not shuffle what was written in an order."""
    for stamp in range(1_000, 1_020):
        made = [ids.uuid7(stamp) for _ in range(2_048)]
        assert made == sorted(made)


def test_an_id_made_now_says_now():
    before = time.time() - 0.001

    assert before <= ids.uuid7_time(ids.uuid7()).timestamp() <= time.time()


def test_no_two_ids_are_alike():
    assert len({ids.uuid7(1_000) for _ in range(10_000)}) == 10_000, "though no more than 4,096 are counted"


def test_base62_has_the_length_asked_for_and_nothing_to_quote():
    made = ids.base62(5_000)

    assert len(made) == 5_000
    assert set(made) == set(ids.BASE62)
