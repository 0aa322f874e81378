"""What is kept between starts, in VAR_DIR: generated secrets, logs, mail, and who runs here now."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import secrets
from pathlib import Path
from typing import Any

from aggregator.embedded.report import Failure


@dataclasses.dataclass(frozen=True, slots=True)
class Secrets:
    """Made once, by the first start, and read ever after."""

    secret_key: str
    key_pepper: str
    postgres_password: str
    valkey_password: str
    log_master_key: str


class State:
    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.log_dir = self.directory / "log"
        self.mail_dir = self.directory / "mail"
        self.postgres_dir = self.directory / "postgres"
        self.valkey_dir = self.directory / "valkey"
        self._lock = -1

    def open(self) -> None:
        """Make the folders, and refuse a second supervisor."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for folder in (self.log_dir, self.mail_dir, self.valkey_dir):
                folder.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(self.directory / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise Failure(
                f"{error.filename} cannot be used: {error.strerror}; set VAR_DIR to another folder"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._lock, 32).decode(errors="replace").strip() or "unknown"
            raise Failure(
                f"already running on {self.directory} (process {holder}): "
                "stop it, or set VAR_DIR to another folder"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)
        self.withdraw()

    def close(self) -> None:
        """Let another supervisor in. The end of the process does the same."""
        os.close(self._lock)

    def secrets(self) -> Secrets:
        path = self.directory / "secrets.json"
        if path.exists():
            try:
                kept = json.loads(path.read_text(encoding="utf-8"))
                if "log_master_key" not in kept:  # a folder of an older release
                    kept["log_master_key"] = secrets.token_urlsafe(32)
                    write_private(path, json.dumps(kept, indent=2) + "\n")
                return Secrets(**kept)
            except (OSError, ValueError, TypeError) as error:
                raise Failure(
                    f"{path} cannot be read ({error}): remove {self.directory} to begin anew"
                ) from error
        if self.postgres_dir.exists():
            raise Failure(
                f"{self.postgres_dir} is there, but {path.name}, which its keys need, is not: "
                f"remove {self.directory} to begin anew"
            )
        made = Secrets(*(secrets.token_urlsafe(32) for _ in dataclasses.fields(Secrets)))
        write_private(path, json.dumps(dataclasses.asdict(made), indent=2) + "\n")
        return made

    def demo(self) -> dict[str, str]:
        """What the seed made: its e-mail, password and keys."""
        path = self.directory / "demo.json"
        try:
            found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Failure(f"{path}, which the seed writes, cannot be read: {error}") from error
        return found

    def publish(self, facts: dict[str, Any]) -> Path:
        """Tell other programs that all is ready, and how to reach it."""
        write_private(self._published, json.dumps(facts, indent=2) + "\n")
        return self._published

    def withdraw(self) -> None:
        self._published.unlink(missing_ok=True)

    @property
    def _published(self) -> Path:
        return self.directory / "dev.json"


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(
        os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
