"""Loaded by pytest before anything else (`-p tests.early`): the servers stand before the settings are read.

An xdist worker inherits the environment of its controller, in which the settings are complete. If they were
read there first, every worker would use, and empty, the controller's Valkey.
"""

from __future__ import annotations

import gc

import pytest

from tests import servers

servers.provide()
gc.disable()  # What is imported and collected stays: to look through it again and again finds nothing.


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """From here on only what tests make is looked through."""
    gc.collect()
    gc.freeze()
    gc.enable()
