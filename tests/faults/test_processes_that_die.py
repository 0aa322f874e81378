"""Rows F01 to F05, F08: a process dies between any step and the next; what was delivered is charged once."""

from __future__ import annotations

import os
import random
import re
import signal
import time

import pytest

from aggregator.lib import crash
from tests.faults.load import call
from tests.product import PROJECT

pytestmark = pytest.mark.xdist_group("faults")

IN_A_CALL = {
    # place: (streamed, what the client saw, its row's status or None, whether the sandbox saw the call)
    "after_hold": (False, "unknown", None, False),
    "after_dispatch": (False, "unknown", "void", False),
    "before_first_event": (True, "unknown", "void", True),
    "before_spool": (False, "unknown", "void", True),
    "after_spool": (False, "unknown", "completed", True),
    "after_last_bytes": (True, "ok", "completed", True),
}
WHILE_FLUSHING = ("before_commit", "after_commit")
WHILE_STARTING = ("after_register", "after_replay", "after_close", "before_removal")
WHILE_OPENING = ("before_opening",)
WHILE_POSTING = ("before_posting_commit", "after_posting_commit")
ELSEWHERE = {
    "before_claim_done": "tests/routing/gateway/test_idempotency_after_a_crash.py",
    "before_document_commit": "tests/billing/test_documents.py",
    "after_document_commit": "tests/billing/test_documents.py",
    "after_month_detached": "tests/billing/test_retention.py",
}


def test_no_place_is_left_without_a_test():
    named = {
        name
        for app in ("accounts", "aggregator", "billing", "routing")
        for path in (PROJECT / app).rglob("*.py")
        for name in re.findall(r'crash\.point\("(\w+)"\)', path.read_text())
    }

    assert named == {*IN_A_CALL, *WHILE_FLUSHING, *WHILE_STARTING, *WHILE_OPENING, *WHILE_POSTING, *ELSEWHERE}
    assert all(f'"{name}"' in (PROJECT / file).read_text() for name, file in ELSEWHERE.items())


def test_the_places_are_dead_unless_a_folder_is_named(settings):
    assert settings.CRASH_DIR == "" and crash.point is crash._off


def await_fired(stand, place, seconds=60):
    until = time.monotonic() + seconds
    while stand.armed(place):
        assert time.monotonic() < until, f"nobody came by {place}\n{stand.log()}"
        time.sleep(0.02)


def test_what_a_worker_that_dies_in_a_call_costs(stand, customers, log, at_rest):
    """F01, F02, F04, F05: the worker dies at a place of its call, and the next one takes over."""
    died = {}
    for place, (stream, *_) in IN_A_CALL.items():
        stand.arm(place)
        died[place] = call(stand.product.api_base, customers[0], log, stream=stream, max_tokens=4)
        assert not stand.armed(place)
    stand.await_ready()

    at_rest()

    seen = {called["user"] for called in stand.sandbox.bill()["calls"]}
    for place, (_, outcome, status, at_sandbox) in IN_A_CALL.items():
        entry = died[place]
        rows = stand.ask("SELECT status FROM generations WHERE user_agent = %s", entry.label)
        if status == "completed":
            assert rows == [("completed",)], place
        else:  # a void row knows nothing of its caller
            assert rows == [], place
        assert (entry.outcome, entry.label in seen) == (outcome, at_sandbox), (place, entry)
    ((void,),) = stand.ask(
        "SELECT count(*) FROM generations WHERE organization_id = %s AND status = 'void'",
        customers[0].organization.id,
    )
    assert void == sum(status == "void" for _, _, status, _ in IN_A_CALL.values())


def test_a_worker_that_dies_while_it_writes_to_postgresql(stand, load, at_rest):
    """F05: before the commit, and between the commit and what follows it."""
    with load(callers=3):
        for place in WHILE_FLUSHING:
            stand.arm(place)
            await_fired(stand, place)

    assert at_rest().ok > 0


def test_a_worker_that_dies_while_it_takes_over_for_a_dead_one(stand, load, at_rest):
    with load(callers=3):
        for place in WHILE_STARTING:
            time.sleep(0.3)
            stand.arm(place)
            os.kill(stand.workers()[0], signal.SIGKILL)
            await_fired(stand, place)

    at_rest()


def test_a_worker_that_dies_before_it_opens_a_new_epoch(stand, load, at_rest):
    """Its gate has lost everything; somebody else opens it."""
    with load(callers=2):
        time.sleep(0.3)
        for place in WHILE_OPENING:
            stand.arm(place)
            stand.valkey.kill()
            stand.valkey.start()
            await_fired(stand, place)

    at_rest()


@pytest.mark.long
def test_killed_in_mid_stream_at_a_random_chunk(stand, load, log, at_rest, seed):
    """F03: truncated, no `[DONE]`, free."""
    chance = random.Random(seed)
    with load(callers=6, models=("sandbox/stream-100",), pause=0):
        for _ in range(2):
            time.sleep(0.3 + chance.random() * 0.5)
            os.kill(chance.choice(stand.workers()), signal.SIGKILL)
        time.sleep(1)

    verdict = at_rest()

    cut = [entry for entry in log.of("unknown") if entry.streamed and entry.bytes]
    assert cut, log.counts
    assert verdict.ok > 0


def test_a_poster_that_dies_before_or_after_its_commit(stand, load, at_rest):
    """F08: the Celery worker dies in its batch; each generation is posted exactly once."""
    with load(callers=2, pause=0.1):
        for place in WHILE_POSTING:
            stand.arm(place)
            await_fired(stand, place)

    at_rest()
