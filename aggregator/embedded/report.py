"""What a person sees: one line for each step, and one line for a failure."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Failure(Exception):
    """Something that keeps the product from running, said in one line with what to do about it."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def say(text: str = "", *, end: str = "\n") -> None:
    print(text, end=end, flush=True)


def complain(failure: Exception, log_dir: object) -> None:
    print(f"fairlead: {' '.join(str(failure).split())} (logs: {log_dir})", file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say what is being done, then how long it took."""
    began = time.monotonic()
    say(f"  {text} …", end="")
    try:
        yield
    except BaseException:
        say(" stopped")
        raise
    say(f" {time.monotonic() - began:.1f} s")
