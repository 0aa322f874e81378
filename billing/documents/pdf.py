"""A document as a PDF: typeset in a process of its own, bounded in time, memory and what it may read."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Final

from billing.documents import layout
from billing.documents.sums import Content

MOST_LINES: Final = 500
"""Of usage, in the PDF; what a month has beyond them is summed there, and itemised in CSV and JSON."""
SECONDS: Final = 180
_PRESS: Final = Path(__file__).with_name("press.py")


class Untypeset(RuntimeError):
    """The typesetter ended without a PDF; its last words are the message."""

    seconds = 1
    """After which it may be asked for again."""


def render(content: Content) -> bytes:
    """The same content gives the same bytes. Raises Untypeset."""
    asked = {
        "layout": layout.of(content, most_lines=MOST_LINES).as_json(),
        "issued_at": int(datetime.fromisoformat(content["issued_at"]).timestamp()),
    }
    return _pressed(json.dumps(asked).encode())


def _pressed(asked: bytes) -> bytes:
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_PRESS)],
            input=asked,
            capture_output=True,
            check=False,
            timeout=SECONDS,
            env={"LC_ALL": "C.UTF-8"},
            cwd=_PRESS.parent,
        )
    except subprocess.TimeoutExpired as error:
        raise Untypeset(f"it took longer than {SECONDS} seconds") from error
    if done.returncode or not done.stdout.startswith(b"%PDF-"):
        raise Untypeset(done.stderr.decode(errors="replace").strip()[-500:] or f"status {done.returncode}")
    return done.stdout
