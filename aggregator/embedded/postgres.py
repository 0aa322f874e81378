"""A PostgreSQL of our own: made once, started in the foreground, as root too.

PostgreSQL refuses to run as root. There, a user namespace shows it another user while every file keeps
its owner: no account is made and no folder is opened to others. Where namespaces are blocked it runs as
`nobody`, if that user can reach the program and the data.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType

import psycopg

from aggregator.embedded import binaries, leash, ports
from aggregator.embedded.processes import Service, Supervisor
from aggregator.embedded.report import Failure

_ROLE = "fairlead"
_NAMESPACE = ("unshare", "--user", "--map-user=65534", "--map-group=65534")


@dataclasses.dataclass(frozen=True, slots=True)
class _Identity:
    """As whom the server runs: a command to put before, or a user to become."""

    wrap: tuple[str, ...] = ()
    user: int | None = None


class Postgres:
    """One server on one data folder. As a context manager it starts and stops by itself."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        password: str | None = None,
        database: str = "fairlead",
        durable: bool = True,
    ) -> None:
        self.directory = directory.absolute()
        self.port = port or ports.free()[0]
        self.password = password or secrets.token_urlsafe(24)
        self.database = database
        self.durable = durable
        self.bin = binaries.postgres_bin()
        self._supervisor: Supervisor | None = None
        self._found: _Identity | None = None

    @property
    def url(self) -> str:
        return f"postgres://{_ROLE}:{self.password}@127.0.0.1:{self.port}/{self.database}"

    def prepare(self) -> None:
        """Make the data folder unless it is there; a half-made one is made again."""
        if (self.directory / "PG_VERSION").exists():
            self._forget_the_dead()
            return
        if self.directory.exists() and any(self.directory.iterdir()):
            raise Failure(f"{self.directory} is no PostgreSQL data folder: remove it to begin anew")
        draft = self.directory.with_name(self.directory.name + ".new")
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(mode=0o700, parents=True)
        identity = self._identity()
        if identity.user is not None:
            os.chown(draft, identity.user, identity.user)
        locale = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8") if self._major() >= 17 else ()
        initdb = [f"{self.bin}/initdb", "-D", str(draft), "-U", "postgres", "-E", "UTF8", "--no-sync"]
        self._make([*initdb, *(locale or ("--locale=C.UTF-8",)), "--auth=reject"])
        hba = draft / "pg_hba.conf"
        hba.write_text("host all all 127.0.0.1/32 scram-sha-256\n", encoding="utf-8")
        # Before anybody can connect: a role that owns the database and may make others, but no superuser.
        self._make(
            [f"{self.bin}/postgres", "--single", "-D", str(draft), "postgres"],
            f"CREATE ROLE {_ROLE} LOGIN CREATEDB PASSWORD '{self.password}'\n"
            f"CREATE DATABASE {self.database} OWNER {_ROLE}\n",
        )
        draft.replace(self.directory)

    def service(self) -> Service:
        identity = self._identity()
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
            "log_checkpoints": "off",
            **(
                {}
                if self.durable
                else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
            ),
        }
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return Service(
            "postgres",
            [*identity.wrap, f"{self.bin}/postgres", "-D", str(self.directory), "-p", str(self.port), *flags],
            {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            self._is_ready,
            stop_signal=signal.SIGINT,  # "fast": ends sessions, then writes everything down
            stop_seconds=30,
            user=identity.user,
        )

    def __enter__(self) -> Postgres:
        self.prepare()
        self._supervisor = Supervisor(self.directory.parent, self.directory.parent)
        try:
            self._supervisor.start(self.service())
        except BaseException:
            self._supervisor.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._supervisor is not None:
            self._supervisor.stop()

    def _is_ready(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=2):
                return True
        except psycopg.OperationalError as error:
            if "authentication failed" in str(error):
                raise Failure(
                    f"PostgreSQL in {self.directory} has another password than secrets.json: "
                    f"remove {self.directory.parent} to begin anew"
                ) from error
            return False

    def _identity(self) -> _Identity:
        if self._found is None:
            self._found = _Identity() if os.geteuid() != 0 else self._identity_for_root()
        return self._found

    def _identity_for_root(self) -> _Identity:
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run([*_NAMESPACE, "true"], capture_output=True, check=False).returncode == 0:
                return _Identity(wrap=_NAMESPACE)
        nobody = pwd.getpwnam("nobody").pw_uid
        parent = self.directory.parent
        parent.mkdir(parents=True, exist_ok=True)
        reach = subprocess.run(
            ["/bin/sh", "-c", '[ -x "$1" ] && cd "$2"', "sh", f"{self.bin}/postgres", str(parent)],
            user=nobody,
            group=nobody,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
        if reach.returncode != 0:
            raise Failure(
                "PostgreSQL refuses to run as root, user namespaces are blocked here, and the user nobody "
                f"cannot reach {self.bin} and {parent}: run as a plain user, or set VAR_DIR and "
                "POSTGRES_BIN, or DATABASE_URL"
            )
        return _Identity(user=nobody)

    def _make(self, command: list[str], script: str = "") -> None:
        identity = self._identity()
        done = subprocess.run(
            [*identity.wrap, *command],
            input=script,
            text=True,
            capture_output=True,
            check=False,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            user=identity.user,
            group=identity.user,
            extra_groups=None if identity.user is None else [],
            preexec_fn=leash.dying_with_me(signal.SIGKILL),
        )
        wrong = re.findall(r"^.*(?:error|ERROR|FATAL|PANIC):.*$", done.stdout + done.stderr, re.MULTILINE)
        if done.returncode != 0 or wrong:
            last = (wrong or done.stderr.splitlines() or ["it said nothing"])[-1]
            raise Failure(f"PostgreSQL's data folder could not be made: {last}")

    def _major(self) -> int:
        text = subprocess.run(
            [f"{self.bin}/postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout
        found = re.search(r"(\d+)", text)
        return int(found.group(1)) if found else 0

    def _forget_the_dead(self) -> None:
        """After a crash the note of the running server stays; its number may be another process by now."""
        if os.stat(self.directory).st_uid not in (os.geteuid(), pwd.getpwnam("nobody").pw_uid):
            owner = os.stat(self.directory).st_uid
            raise Failure(f"{self.directory} belongs to user {owner}: run as that user, or set VAR_DIR")
        note = self.directory / "postmaster.pid"
        try:
            pid = int(note.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return
        until = time.monotonic() + 20
        while self._is_ours(pid):
            if time.monotonic() > until:
                raise Failure(f"process {pid} still holds {self.directory} and does not stop")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
            time.sleep(0.1)
        note.unlink(missing_ok=True)

    def _is_ours(self, pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/cwd").resolve(strict=True) == self.directory.resolve()
        except OSError:
            return False
