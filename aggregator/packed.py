"""Static files, compressed beforehand: the embedded default serves them where they lie, so the packed ones
lie in VAR_DIR. Elsewhere `collectstatic` packs.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles import finders
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile

_KINDS = (".css", ".js", ".svg")
_LEAST_BYTES = 1024
_OF_TABLER = ("tabler.min.css", "tabler.min.js")


class StaticFiles(WhiteNoiseMiddleware):
    """WhiteNoise, which also knows what was packed."""

    def get_static_file(self, path: str, url: str, stat_cache: Any = None) -> StaticFile:
        found = super().get_static_file(path, url, stat_cache)
        packed = _place(url.removeprefix(self.static_prefix))
        if not settings.EMBEDDED or not packed.is_file() or _is_old(packed, Path(path)):
            return found
        headers = [(name, value) for name, value in found.alternatives[0][2] if name != "Content-Length"]
        return StaticFile(path, headers, encodings={"gzip": str(packed)})


def pack() -> int:
    """Compress what is new or has changed; how many files that were."""
    count = 0
    for url, path in _packable().items():
        place = _place(url)
        if place.is_file() and not _is_old(place, path):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_suffix(".new")
        new.write_bytes(gzip.compress(path.read_bytes(), 9))
        changed = path.stat().st_mtime
        os.utime(new, (changed, changed))
        new.replace(place)
        count += 1
    return count


def _packable() -> dict[str, Path]:
    """By address; of two files that would have the same one, the first is served."""
    found: dict[str, Path] = {}
    for finder in finders.get_finders():
        for name, storage in finder.list(None):
            path = Path(storage.path(name))
            url = "/".join(filter(None, (getattr(storage, "prefix", "") or "", name)))
            if path.suffix in _KINDS and path.stat().st_size >= _LEAST_BYTES and _is_used(path.name):
                found.setdefault(url, path)
    return found


def _is_used(name: str) -> bool:
    return not name.startswith("tabler") or name in _OF_TABLER


def _place(url: str) -> Path:
    return Path(settings.VAR_DIR) / "static" / f"{url}.gz"


def _is_old(packed: Path, path: Path) -> bool:
    """Both have one time of change: whatever else it is, the file is another one."""
    return int(packed.stat().st_mtime) != int(path.stat().st_mtime)
