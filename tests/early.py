"""Loaded by pytest before anything else (`-p tests.early`): the servers stand before the settings are read.

An xdist worker inherits the environment of its controller, in which the settings are complete. If they were
read there first, every worker would use, and empty, the controller's Valkey.
"""

from __future__ import annotations

from tests import servers

servers.provide()
