"""What each worker saw reaches all the others through a real cache, and rows of five minutes."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from django.db import OperationalError

from aggregator.lib import clock, kv
from billing import refused
from billing.core import budgets
from billing.core.budgets import Account
from routing import exchange, figures, merging
from routing.core.live import Live, made_ready
from routing.core.vitals import Plain, Snapshot, Vitals
from routing.exchange import EVERY_SECONDS, STALE_SECONDS, Exchange
from routing.merging import WINDOW_SECONDS, Merger
from routing.models import Window

pytestmark = pytest.mark.django_db

NOON = 1_800_000_000.0 - 1_800_000_000.0 % WINDOW_SECONDS


class Workers:
    """Workers of one event loop, whose clock the test sets."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.all: list[Exchange] = []

    def start(self) -> Exchange:
        async def make() -> Exchange:
            return Exchange(Live(), f"worker-{len(self.all)}")

        self.all.append(self.runner.run(make()))
        return self.all[-1]

    def turn(self, worker: Exchange, at: float) -> None:
        self.runner.run(worker.turn(unix=at, now=at))

    def close(self) -> None:
        for worker in self.all:
            self.runner.run(worker.close())
        self.runner.close()


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.close()


def see(worker, *, times=1, at=NOON, ttft=2.0, slug="p:a/m", failed=False):
    seen = {"ttft_seconds": ttft, "tokens": 100, "seconds": ttft + 1, "now": at}
    for _ in range(times):
        if failed:
            worker.live.failed(slug, rate_limited=False)
        else:
            worker.live.observe(slug, **seen)


def share(workers, merger, at):
    """Everybody tells, the job looks, everybody hears."""
    for worker in workers.all:
        workers.turn(worker, at)
    merger.look(at)
    for worker in workers.all:
        workers.turn(worker, at)


def test_a_budget_that_refused_is_told_with_the_next_turn_once(workers):
    worker = workers.start()
    account = Account("user:acme:total:two words", "acme", 7, window=budgets.window("total", clock.now()))
    for _ in range(3):
        refused.note(account)
    assert refused.take() == []

    workers.turn(worker, NOON)
    assert refused.take() == [(7, "user:acme:total:two words")]
    workers.turn(worker, NOON + EVERY_SECONDS)
    assert refused.take() == []


def test_what_one_worker_saw_all_know_after_one_look(workers):
    first, second, merger = workers.start(), workers.start(), Merger()
    see(first, times=30)
    see(second, times=10, ttft=0.5)
    share(workers, merger, NOON)

    for worker in (first, second):
        vitals = worker.live.vitals("p:a/m")
        assert vitals.attempts == vitals.recent.attempts == 40
        assert vitals.ttft_seconds.p50 == pytest.approx(2.0, rel=0.05)
        assert vitals.uptime_5m == vitals.uptime_1d == 1.0
    assert figures.published() == first.live.snapshot


def test_a_worker_tells_totals_so_telling_again_counts_once(workers):
    worker, merger = workers.start(), Merger()
    for turn in range(4):
        see(worker, times=5)
        workers.turn(worker, NOON + turn * EVERY_SECONDS)
        merger.look(NOON + turn * EVERY_SECONDS)
    workers.turn(worker, NOON + 2)

    assert worker.live.vitals("p:a/m").attempts == 20


def test_five_minutes_slide_and_half_a_minute_within_them(workers):
    worker, merger = workers.start(), Merger()
    see(worker, times=8)
    attempts, lately = {}, {}
    for after in (0, 20, 60, 250, 310):
        share(workers, merger, NOON + after)
        vitals = worker.live.vitals("p:a/m")
        attempts[after], lately[after] = vitals.attempts, vitals.recent.attempts

    assert attempts == {0: 8, 20: 8, 60: 8, 250: 8, 310: 0}
    assert lately == {0: 8, 20: 8, 60: 0, 250: 0, 310: 0}


def test_at_every_moment_the_figures_are_of_the_last_five_minutes(workers):
    worker, merger, seen = workers.start(), Merger(), []
    for after in range(0, 700, 9):
        see(worker, at=NOON + after, times=1 + after % 4)
        workers.turn(worker, NOON + after)
        seen.append((figures.stretch(NOON + after), 1 + after % 4))
        merger.look(NOON + after)
        newest = seen[-1][0]
        attempts = figures.published().endpoints["p:a/m"].attempts
        # a turn tells what came since the one before as part of the stretch before
        late = [(before[0], count) for before, (_, count) in zip([seen[0], *seen], seen, strict=False)]
        assert attempts == sum(count for at, count in late if at > newest - merging.MINUTES)


def test_a_merger_that_starts_late_knows_what_the_one_before_knew(workers):
    worker, merger = workers.start(), Merger()
    for after in range(0, 120, 7):
        see(worker, at=NOON + after, failed=after % 2 == 0)
        share(workers, merger, NOON + after)
    known = figures.published()
    Merger().look(NOON + 119)

    assert figures.published() == known  # not even another version
    assert known.endpoints["p:a/m"].attempts == 18


def test_while_nothing_is_new_only_the_head_moves(workers):
    worker, merger = workers.start(), Merger()
    see(worker)
    share(workers, merger, NOON)
    version, head = worker.live.snapshot.version, kv.cache().get(figures.HEAD)
    merger.look(NOON + 0.5)

    assert figures.published().version == version
    assert kv.cache().get(figures.HEAD) != head


def test_an_emptied_cache_is_filled_again_by_the_next_look(workers):
    worker, merger = workers.start(), Merger()
    see(worker, times=3)
    share(workers, merger, NOON)
    share(workers, merger, NOON + 10)
    known = worker.live.snapshot.endpoints
    kv.cache().flushdb()
    share(workers, merger, NOON + 10.5)

    assert figures.published().endpoints["p:a/m"].attempts == known["p:a/m"].attempts


def test_a_worker_whose_job_is_gone_goes_on_alone_and_hears_the_next(workers):
    worker, merger = workers.start(), Merger()
    see(worker, times=50)
    share(workers, merger, NOON)
    workers.turn(worker, NOON + STALE_SECONDS - 1)
    assert worker.live.snapshot.version

    workers.turn(worker, NOON + STALE_SECONDS + 1)
    alone = worker.live.predict("p:a/m", ttft_seconds=1, seconds_per_token=1, now=NOON + STALE_SECONDS)
    assert worker.live.snapshot.version == 0 and alone[0] > 1.8
    workers.turn(worker, NOON + STALE_SECONDS + 2)
    assert worker.live.snapshot.version == 0  # the same old head says nothing

    merger.look(NOON + STALE_SECONDS + 3)
    workers.turn(worker, NOON + STALE_SECONDS + 3)
    assert worker.live.snapshot.version


def test_what_could_not_be_told_is_told_later_and_no_call_notices(workers, settings):
    url = settings.CACHE_URL
    settings.CACHE_URL = "redis://127.0.0.1:1/0"
    worker, merger = workers.start(), Merger()
    for after in (0, 1, 6):
        see(worker, at=NOON + after)
        workers.turn(worker, NOON + after)
    settings.CACHE_URL = url
    worker._client = kv.async_cache()
    share(workers, merger, NOON + 11)

    assert worker.live.vitals("p:a/m").attempts == 3


def test_a_cache_that_hangs_holds_a_turn_up_and_no_longer_than_its_deadline(workers, settings, monkeypatch):
    url = settings.CACHE_URL
    with socket.create_server(("127.0.0.1", 0)) as silent, monkeypatch.context() as hurried:
        hurried.setattr("routing.exchange._ANSWER_SECONDS", 0.1)
        settings.CACHE_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        worker, merger = workers.start(), Merger()
        see(worker)
        began = time.monotonic()
        workers.turn(worker, NOON)
        workers.turn(worker, NOON + 1)
        assert time.monotonic() - began < 10
    settings.CACHE_URL = url
    worker._client = kv.async_cache()
    share(workers, merger, NOON + 2)

    assert worker.live.vitals("p:a/m").attempts == 1


def test_what_cannot_be_told_for_long_is_bounded(workers, settings):
    settings.CACHE_URL = "redis://127.0.0.1:1/0"
    worker = workers.start()
    for after in range(0, 300, 5):
        see(worker, at=NOON + after)
        workers.turn(worker, NOON + after)

    assert len(worker._past) <= 24


def test_a_teller_that_nobody_understands_spoils_nothing(workers):
    worker, merger = workers.start(), Merger()
    see(worker)
    kv.cache().hset(figures.key(figures.stretch(NOON)), "another release", '{"p:a/m": ["?"]}')
    share(workers, merger, NOON)

    assert worker.live.vitals("p:a/m").attempts == 1


def test_five_minutes_become_one_row_whoever_writes_them(workers):
    worker, merger, another = workers.start(), Merger(), Merger()
    for after in (0, 100, 299):
        see(worker, at=NOON + after, failed=after == 100)
        share(workers, merger, NOON + after)
    for at in (NOON + 316, NOON + 317):
        merger.look(at)
        another.look(at)
        merging.write(int(NOON // WINDOW_SECONDS))

    (row,) = Window.objects.all()
    assert (row.endpoint, row.worked, row.failures) == ("p:a/m", 2, 1)
    assert row.start == datetime.fromtimestamp(NOON, tz=UTC)
    assert figures.published().endpoints["p:a/m"].uptime_30m == pytest.approx(2 / 3, abs=1e-4)


def test_uptimes_are_of_half_an_hour_and_of_a_day(workers):
    worker, merger = workers.start(), Merger()
    for ago, worked, failures in ((7200, 90, 0), (1200, 5, 5), (90_000, 0, 1000)):
        start = datetime.fromtimestamp(NOON - ago, tz=UTC)
        Window.objects.create(endpoint="p:a/m", start=start, worked=worked, failures=failures, fold=[])
    start = datetime.fromtimestamp(NOON - 900, tz=UTC)
    Window.objects.create(endpoint="p:a/idle", start=start, probes=4, probe_failures=1, fold=[])
    see(worker, times=10)
    share(workers, merger, NOON + 1)

    vitals = worker.live.vitals("p:a/m")
    assert (vitals.uptime_5m, vitals.uptime_30m) == (1.0, 0.75)
    assert vitals.uptime_1d == pytest.approx(105 / 110, abs=1e-4)
    assert worker.live.vitals("p:a/idle").uptime_30m == 0.75


def test_old_rows_go(workers, settings):
    settings.VITALS_KEPT_DAYS = 2
    for days in (1, 3):
        start = datetime.fromtimestamp(NOON - days * 86_400, tz=UTC)
        Window.objects.create(endpoint="p:a/m", start=start, fold=[])
    merging.write(int(NOON // WINDOW_SECONDS))

    assert Window.objects.count() == 1


def test_without_postgresql_snapshots_go_on(workers, monkeypatch):
    def away(_):
        raise OperationalError("the database is away")

    monkeypatch.setattr(merging, "history", away)
    worker, merger = workers.start(), Merger()
    see(worker)
    share(workers, merger, NOON)

    assert worker.live.vitals("p:a/m").attempts == 1


def test_what_is_no_head_of_ours_neither_ends_a_worker_nor_stays(workers):
    worker, merger = workers.start(), Merger()
    see(worker)
    for strange in ("", "x", "v2:17 now", "\u0661 1", "9" * 40):
        kv.cache().set(figures.HEAD, strange)
        workers.turn(worker, NOON)
        assert worker.live.snapshot.version == 0

    share(workers, merger, NOON + 1)
    assert worker.live.vitals("p:a/m").attempts == 1


def test_calls_have_their_turn_while_a_long_snapshot_is_taken_in(workers, monkeypatch):
    worker = workers.start()
    vitals = Vitals(100, plain=Plain(10, 1.0, 100))
    found = Snapshot(5, NOON, {f"p:a/m{number}": vitals for number in range(1000)})
    kv.cache().set(figures.SNAPSHOT, figures.encode(found))
    kv.cache().set(figures.HEAD, f"5 {NOON}")
    turns, begun = 0, []

    def watched(endpoints):
        begun.append(turns)
        return made_ready(endpoints)

    async def calls() -> None:
        nonlocal turns
        while not worker.live.snapshot.version:
            turns += 1
            await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(worker.turn(unix=NOON, now=NOON), calls())

    monkeypatch.setattr(exchange, "made_ready", watched)
    workers.runner.run(both())
    assert len(begun) == 11 and len(set(begun[1:])) == 10
    assert worker.live.vitals("p:a/m999") == vitals and worker.live.observations == 0
