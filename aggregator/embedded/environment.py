"""The embedded default's environment, kept so that `manage.py` works beside it without any setting."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from aggregator.embedded.state import write_private

_PROJECT = Path(__file__).resolve().parents[2]
_KEPT = (
    *(
        "EMBEDDED",
        "VAR_DIR",
        "SECRET_KEY",
        "KEY_PEPPER",
        "LOG_MASTER_KEYS",
        "PUBLIC_URL",
        "PORT",
        "SANDBOX_PORT",
        "SANDBOX_BASE_URL",
    ),
    *("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRETS", "STRIPE_API_BASE", "STRIPE_SANDBOX_PORT"),
    *("STRIPE_SECRET_KEY_FILE", "STRIPE_WEBHOOK_SECRETS_FILE"),
    *("DATABASE_URL", "REDIS_URL", "GATE_URL", "CACHE_URL", "CELERY_BROKER_URL", "GATE_SHARDS"),
    *(
        "SECRET_KEY_FILE",
        "KEY_PEPPER_FILE",
        "LOG_MASTER_KEYS_FILE",
        "GATE_URL_FILE",
        "CACHE_URL_FILE",
        "CELERY_BROKER_URL_FILE",
    ),
)


def path(var_dir: Path) -> Path:
    return var_dir / "environment.json"


def keep(var_dir: Path, environment: Mapping[str, str]) -> None:
    kept = {name: environment[name] for name in _KEPT if environment.get(name, "").strip()}
    write_private(path(var_dir), json.dumps(kept, indent=2) + "\n")


def adopt() -> None:
    """Take the environment of the last start, unless this process was given a database of its own."""
    if os.environ.get("DATABASE_URL", "").strip() or os.environ.get("DATABASE_URL_FILE", "").strip():
        return
    stated = os.environ.get("VAR_DIR", "").strip()
    try:
        kept = json.loads(path(Path(stated) if stated else _PROJECT / "var").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for name, value in kept.items():
        os.environ.setdefault(name, value)
