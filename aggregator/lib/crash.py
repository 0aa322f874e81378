"""Named places at which a test lets this process die, as `kill -9` would: between one step and the next.

Off (always, but in tests of the embedded default) a place is a call that does nothing. On, by CRASH_DIR, a
file of the place's name in that folder arms it: the first process that comes by removes the file and dies.
"""

from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings

EXIT_CODE = 137
"""What a shell says of a process that was killed by signal 9."""


def _off(name: str) -> None:
    """The place is not armed."""


def _on(name: str) -> None:
    try:
        (Path(settings.CRASH_DIR) / name).unlink()
    except FileNotFoundError:
        return
    os._exit(EXIT_CODE)


point = _on if settings.CRASH_DIR else _off
