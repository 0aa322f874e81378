"""The gate may lose everything, or be away: nothing is spent twice, and our faults look like ours."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager

import pytest
import redis

from tests.product import processes_of
from tests.routing.gateway.caller import error_of
from tests.routing.gateway.test_workers_that_are_killed import swept_by_calls

pytestmark = pytest.mark.xdist_group("gateway")


def pids(product, program):
    found = [pid for pid, command in processes_of(product.var).items() if program in command.split(" ")[0]]
    assert found, processes_of(product.var)
    return found


@contextmanager
def frozen(product, program):
    """The service does not answer, as behind a broken network."""
    stopped = pids(product, program)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def until_ok(caller, seconds=60):
    """How often it was refused meanwhile, by status; then it answers again."""
    seen = Counter()
    until = time.monotonic() + seconds
    while (answer := caller.chat(max_tokens=2)).status_code != 200:
        seen[answer.status_code] += 1
        assert time.monotonic() < until, seen
        time.sleep(0.05)
    return seen


@pytest.fixture
def valkey(running):
    client = redis.Redis.from_url(running.redis_url, decode_responses=True)
    yield client
    client.close()


def agree(caller, desk, seconds=60):
    """At rest the gate, PostgreSQL and the sum of all calls say the same."""
    until = time.monotonic() + seconds
    while True:
        wallet = desk.await_no_holds(caller.organization)
        funds = 10 * 10**9 - sum(row["charge_nanos"] for row in desk.generations(caller.organization))
        if wallet.credit - wallet.spent == wallet.funds == funds:
            return
        assert time.monotonic() < until, (wallet, funds)
        time.sleep(0.05)


def test_a_gate_that_lost_everything_is_rebuilt(caller, desk, valkey):
    for _ in range(5):
        caller.chat(max_tokens=2)
    desk.await_generations(caller.organization, 5)

    valkey.flushall()
    seen = until_ok(caller)

    assert set(seen) <= {503}
    caller.chat(max_tokens=2)
    agree(caller, desk)
    assert desk.breaches() == []


def test_losing_everything_under_load_loses_no_call(caller, desk, valkey):
    answers = []
    over = threading.Event()

    def work():
        while not over.is_set():
            answers.append(caller.chat(max_tokens=2))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for _ in range(3):
        time.sleep(0.4)
        valkey.flushall()
    time.sleep(0.4)
    until = time.monotonic() + 60
    while sum(answer.status_code == 200 for answer in answers) <= 10 and time.monotonic() < until:
        time.sleep(0.1)
    over.set()
    for worker in workers:
        worker.join()
    until_ok(caller)

    seen = Counter(answer.status_code for answer in answers)
    assert seen[200] > 10 and set(seen) <= {200, 503}, seen
    rows = desk.await_generations(caller.organization, seen[200] + 1)
    assert {row["status"] for row in rows} == {"completed"}
    agree(caller, desk)
    assert desk.breaches() == []


def test_one_wallet_evicted_is_loaded_again(caller, desk, valkey):
    caller.chat(max_tokens=2)
    desk.await_generations(caller.organization, 1)

    assert valkey.delete(*valkey.keys(f"*:w:org:{caller.organization.public_id}")) == 1
    until_ok(caller)

    agree(caller, desk)


def test_one_key_version_evicted_is_asked_again(caller, desk, valkey):
    caller.chat(max_tokens=2)

    assert valkey.delete(*valkey.keys(f"*:k:{caller.key_id}")) == 1

    assert caller.chat(max_tokens=2).status_code == 200


def test_a_restarted_gate_is_rebuilt_while_a_stream_goes_on(running, caller, desk):
    with caller.opened("sandbox/harbor") as response:
        blocks = response.iter_raw()
        got = next(blocks)
        for pid in pids(running, "valkey"):
            os.kill(pid, signal.SIGKILL)
        got += b"".join(blocks)
    assert got.endswith(b"data: [DONE]\n\n")

    assert set(until_ok(caller)) <= {503}
    rows = desk.await_generations(caller.organization, 2)
    assert all(row["charge_nanos"] > 0 for row in rows)
    agree(caller, desk)
    assert desk.breaches() == []


def test_a_gate_that_does_not_answer_is_503_and_soon(running, caller, desk):
    began = time.monotonic()
    caller.chat(max_tokens=2)
    usual = time.monotonic() - began
    with frozen(running, "valkey"):
        for _ in range(3):
            began = time.monotonic()
            answer = caller.chat(max_tokens=2)
            assert error_of(answer) == (503, "service_unavailable")
            assert int(answer.headers["retry-after"]) >= 1
            assert time.monotonic() - began < 3 + 3 * usual
        stream = caller.stream(max_tokens=2)
        assert stream.status == 503

    assert set(until_ok(caller)) <= {503}
    time.sleep(3.2)  # holds whose outcome was unknown run out with their lease; the next call sweeps them
    swept_by_calls(caller, desk)
    agree(caller, desk)


def test_calls_go_on_while_postgresql_is_away(running, caller, desk):
    caller.chat(max_tokens=2)
    with frozen(running, "postgres"):
        answers = [caller.chat(max_tokens=2) for _ in range(5)]
        streams = [caller.stream(max_tokens=2) for _ in range(2)]
        time.sleep(0.3)

    assert [answer.status_code for answer in answers] == [200] * 5
    assert all(stream.done for stream in streams)
    desk.await_generations(caller.organization, 8, posted=True)
    agree(caller, desk)
    assert desk.breaches() == []


def test_a_key_that_nobody_can_look_up_is_503_not_401(running, caller, desk):
    text, _ = desk.key(caller.organization)
    with frozen(running, "postgres"):
        answer = caller.http.post(
            "/chat/completions", json=caller.body(), headers={"Authorization": f"Bearer {text}"}
        )

    assert error_of(answer) == (503, "service_unavailable")
