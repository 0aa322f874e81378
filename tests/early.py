"""Loaded by pytest before anything else (`-p tests.early`): the servers stand before the settings are read.

An xdist worker inherits the environment of its controller, in which the settings are complete. If they were
read there first, every worker would use, and empty, the controller's Valkey.

Where nothing is compiled yet (a fresh clone), the first worker collects alone. Side by side, each would
compile the same for itself: 16 seconds of CPU.
"""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path

import pytest

from tests import servers

_COLD = "FAIRLEAD_TESTS_COLD"
_PATIENCE_SECONDS = 120
_WORKER = os.environ.get("PYTEST_XDIST_WORKER")


def _collected() -> Path | None:
    """Stands when the first worker has collected; none where nobody waits for that."""
    folder = servers.shared()
    return folder / "collected" if folder and _COLD in os.environ else None


if _WORKER is None and not any((Path(__file__).parent / "__pycache__").glob("conftest.*")):
    os.environ[_COLD] = "1"
elif _WORKER not in (None, "gw0") and (made := _collected()):
    until = time.monotonic() + _PATIENCE_SECONDS
    while not made.exists() and time.monotonic() < until:
        time.sleep(0.1)

servers.provide()
gc.disable()  # What is imported and collected stays: to look through it again and again finds nothing.


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """From here on only what tests make is looked through."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_collection_finish() -> None:
    if _WORKER == "gw0" and (made := _collected()):
        made.touch()
