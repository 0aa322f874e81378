"""Two processes watch each other, so that whichever is killed, the other one cleans up.

The guardian is what a person started: it passes signals on and waits. Its child does the work. If the
guardian is killed, the kernel tells the child, which stops everything in order; if the child is killed,
the guardian inherits what it left and ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from aggregator.embedded import leash


class Stopped(BaseException):
    """Somebody asked for an orderly end. Not an `Exception`: nothing but the supervisor may catch it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def guard(work: Callable[[], int]) -> int:
    """Run `work` in a child of its own and return its exit code, leaving no process behind."""
    leash.inherit_orphans()
    me = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            leash.die_with_parent(signal.SIGTERM, me)
            os.setsid()  # Ctrl-C reaches the guardian alone, which passes it on once
            leash.inherit_orphans()
            listen()
            code = work()
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda number, _: _pass_on(child, number))
    _, status = os.waitpid(child, 0)
    leash.end_all()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def listen() -> None:
    """Turn the first request to stop into `Stopped`, wherever the work stands, and ignore the rest."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _stop(signum: int, _: FrameType | None) -> None:
    deaf()
    raise Stopped(signum)


def deaf() -> None:
    """From here on everything is being stopped already."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)


def _pass_on(child: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGINT if signum == signal.SIGINT else signal.SIGTERM)
