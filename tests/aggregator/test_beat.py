"""Of several schedulers one ticks, and another takes over when it dies."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from django.conf import settings

from aggregator.embedded import leash
from tests.product import PROJECT

_PID = re.compile(r"gen(\d+)@")


@contextlib.contextmanager
def scheduler(folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    command = f"celery -A aggregator.celery beat -s {folder / name} --pidfile= --loglevel=INFO"
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command.split()],
            cwd=PROJECT,
            env=dict(os.environ),
            stdout=log,
            stderr=log,
            preexec_fn=leash.dying_with_me(signal.SIGTERM),
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def senders(broker: redis.Redis) -> set[int]:
    """Who sent the jobs that wait, by process; they are taken away."""
    found = set()
    while message := broker.lpop("celery"):
        origin = _PID.match(json.loads(message)["headers"]["origin"])
        assert origin is not None
        found.add(int(origin[1]))
    return found


def await_that(is_so: Callable[[], bool], *, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.fixture
def broker() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.CELERY_BROKER_URL) as client:
        yield client


def test_of_two_schedulers_one_ticks_and_the_other_takes_over_when_it_dies(broker, tmp_path):
    def log(name: str) -> str:
        return (tmp_path / f"{name}.log").read_text()

    with scheduler(tmp_path, "first") as first, scheduler(tmp_path, "second") as second:
        both = {"first": first, "second": second}
        await_that(lambda: any("this scheduler ticks" in log(name) for name in both))
        await_that(lambda: any("another scheduler ticks" in log(name) for name in both))
        await_that(lambda: broker.llen("celery") > 5)
        sent = senders(broker)
        await_that(lambda: broker.llen("celery") > 2)
        assert len(sent | senders(broker)) == 1

        (ticking,) = (each for each in both.values() if each.pid in sent)
        (waiting,) = (each for each in both.values() if each.pid not in sent)
        ticking.kill()
        ticking.wait(10)
        senders(broker)
        await_that(lambda: broker.llen("celery") > 2)
        assert senders(broker) == {waiting.pid}
