"""PostgreSQL and Valkey for one pytest run, and the environment that the settings read.

Loaded before Django's settings. A run given DATABASE_URL or REDIS_URL uses those. Under xdist the
controller's PostgreSQL serves every worker (each has a database of its own), while each worker starts
its own Valkey, so that nobody flushes what another one holds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from aggregator.embedded import ports
from aggregator.embedded.postgres import Postgres
from aggregator.embedded.valkey import Valkey

_OWN_VALKEY = "FAIRLEAD_TESTS_OWN_VALKEY"
_SHARED = "FAIRLEAD_TESTS_FOLDER"
_running = contextlib.ExitStack()


def provide() -> None:
    """Start what is missing and say in the environment where it is."""
    _keep_to_own_ports()
    folder = Path(tempfile.mkdtemp(prefix="fairlead-tests-"))
    _running.callback(shutil.rmtree, folder, ignore_errors=True)
    worker = "PYTEST_XDIST_WORKER" in os.environ
    if not worker:
        os.environ[_SHARED] = str(folder)
    if not os.environ.get("DATABASE_URL"):
        server = _running.enter_context(Postgres(folder / "postgres", durable=False))
        os.environ["DATABASE_URL"] = server.url
    if not os.environ.get("REDIS_URL") or (worker and _OWN_VALKEY in os.environ):
        os.environ["REDIS_URL"] = _running.enter_context(Valkey(folder / "valkey")).url
        os.environ[_OWN_VALKEY] = "1"
    if worker or not os.environ.get("VAR_DIR"):
        os.environ["VAR_DIR"] = str(folder / "var")
    os.environ.setdefault("EMBEDDED", "1")
    os.environ.setdefault("SECRET_KEY", "a-secret-key-that-only-tests-use-0123456789")
    os.environ.setdefault("KEY_PEPPER", "a-key-pepper-that-only-tests-use-0123456789")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aggregator.settings")


def _keep_to_own_ports() -> None:
    """What one worker has found free, no other may take before it listens there."""
    own = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports.span = ports.span[own :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]


def own_valkey() -> bool:
    """Whether this process may empty its Valkey."""
    return _OWN_VALKEY in os.environ


def shared() -> Path | None:
    """A folder that the workers of this run have in common; none where pytest does not run."""
    return Path(os.environ[_SHARED]) if _SHARED in os.environ else None


def stop() -> None:
    _running.close()
