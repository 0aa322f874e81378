"""With PostgreSQL silent, known keys go on; the others hear 503 soon, and never that they are wrong."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.processes.conftest import wait_for
from tests.product import processes_of
from tests.routing.gateway.caller import error_of

pytestmark = pytest.mark.xdist_group("processes")


@contextmanager
def silent(house):
    """PostgreSQL takes connections and bytes, and answers nothing."""
    pids = [
        pid
        for pid, command in processes_of(house.product.var).items()
        if command.split(" ")[0].rpartition("/")[2].rstrip(":") == "postgres"
    ]
    assert len(pids) > 3
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_known_keys_go_on_and_unknown_ones_hear_503_soon(house):
    known = house.caller()
    strangers = [house.desk.key(known.organization)[0] for _ in range(24)]
    house.make_known(known)
    time.sleep(1.5)  # the keys are older now than they are trusted without asking

    with silent(house), httpx.Client(trust_env=False, timeout=30) as client:
        for _ in range(10):
            assert ask(client, house, known.text).status_code == 200
        with ThreadPoolExecutor(24) as pool:
            usual, _ = timed(lambda: list(pool.map(lambda _: ask(client, house, known.text), strangers)))
            seconds, answers = timed(lambda: list(pool.map(lambda text: ask(client, house, text), strangers)))
        assert seconds < 4 + 3 * usual  # a second each, and all at once
        assert {error_of(answer) for answer in answers} == {(503, "service_unavailable")}
        assert {answer.headers["retry-after"] for answer in answers} == {"1"}
        assert ask(client, house, known.text).status_code == 200

    with httpx.Client(trust_env=False, timeout=30) as client:
        for text in strangers[:4]:
            wait_for(lambda text=text: ask(client, house, text).status_code == 200)
    spent = house.desk.await_no_holds(known.organization).spent
    wait_for(lambda: sum(row["charge_nanos"] for row in house.desk.generations(known.organization)) == spent)
    assert {row["status"] for row in house.desk.generations(known.organization)} == {"completed"}


def timed(work):
    """Its seconds and what it found."""
    began = time.monotonic()
    found = work()
    return time.monotonic() - began, found


def ask(client, house, text):
    return client.post(
        f"{house.product.api_base}/chat/completions",
        json={"model": "sandbox/instant", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1},
        headers={"Authorization": f"Bearer {text}"},
    )
