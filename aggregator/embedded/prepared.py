"""Whether what our own database holds is still what the files say, told without loading Django.

Making schema, catalog and demo ready costs seconds; a warm start skips them when nothing they are made
of has changed since they last succeeded on this folder's database.
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

from aggregator.embedded.state import write_private

_PROJECT = Path(__file__).resolve().parents[2]
_MADE_OF = (
    "requirements.lock",
    "*/migrations/*.py",
    "routing/catalog/*",
    "routing/sync.py",
    "routing/sandbox/*.py",
    "aggregator/management/commands/*.py",
    "aggregator/packed.py",
    "aggregator/static/fairlead/*",
    "billing/plans.py",
    "billing/payments/stripe_setup.py",
    "aggregator/embedded/prepare.py",
)


def is_current(var_dir: Path) -> bool:
    note = _note(var_dir)
    return note.exists() and (var_dir / "demo.json").exists() and note.read_text() == _fingerprint()


def remember(var_dir: Path) -> None:
    write_private(_note(var_dir), _fingerprint())


def forget(var_dir: Path) -> None:
    """Something did not work: let the next start make everything whole again."""
    _note(var_dir).unlink(missing_ok=True)


def _note(var_dir: Path) -> Path:
    return var_dir / "prepared"


def _fingerprint() -> str:
    """Changes with each of those files, with settings of providers and Stripe, and with the month."""
    found = hashlib.sha256(f"{datetime.now(tz=UTC):%Y-%m}".encode())
    for pattern in _MADE_OF:
        for path in sorted(_PROJECT.glob(pattern)):
            if path.is_file():
                found.update(f"\0{path.relative_to(_PROJECT)}\0".encode() + path.read_bytes())
    for name in sorted(os.environ):
        if name.endswith(("_API_KEY", "_BASE_URL", "_SECRET_KEY")):
            found.update(f"\0{name}={os.environ[name]}".encode())
    return found.hexdigest()
