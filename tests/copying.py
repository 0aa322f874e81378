"""Of the workers of one run, the first migrates its database; those of the others are copies of it.

Migrating takes two seconds of CPU, a copy a fraction of one. Only on a PostgreSQL of the run's own: on a
server that was given, the copy would stay behind.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path

from django.conf import settings
from django.db import connection

from aggregator.embedded import migrating
from tests import servers

_NAME = "fairlead_migrated"


class Copy:
    """From before the database is made until it can be copied, one worker at a time."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._made: Path | None = None

    def begin(self) -> None:
        self._held.enter_context(migrating.of_an_empty_database())
        folder = servers.shared()
        if folder is None or "PYTEST_XDIST_WORKER" not in os.environ or not (folder / "postgres").exists():
            return
        fcntl.flock(self._held.enter_context((folder / "copying").open("w")), fcntl.LOCK_EX)
        if (folder / "migrated").exists():
            settings.DATABASES["default"]["TEST"]["TEMPLATE"] = _NAME
            self._held.close()
        else:
            self._made = folder / "migrated"

    @property
    def is_first(self) -> bool:
        """Whether nothing was there to copy."""
        return "TEMPLATE" not in settings.DATABASES["default"]["TEST"]

    def end(self) -> None:
        if self._made is not None:
            name = connection.settings_dict["NAME"]
            connection.close()
            connection.close_pool()
            with connection._nodb_cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {_NAME} TEMPLATE {name}")
            self._made.touch()
        self._held.close()
