"""The whole product as its user gets it: `python -m aggregator.embedded` on a folder and ports of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from aggregator.embedded import leash, ports
from tests import servers

PROJECT = Path(__file__).resolve().parents[1]
PORTS = ("PORT", "POSTGRES_PORT", "VALKEY_PORT", "SANDBOX_PORT", "STRIPE_SANDBOX_PORT")
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "USER")
_ONE_AFTER_THE_OTHER = """
import json, runpy, sys
stated = sys.argv[1:]
for command in stated:
    sys.argv = ["manage.py", *json.loads(command)]
    try:
        runpy.run_path("manage.py", run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise
"""
"""`manage.py` for each argument, a command as JSON; the first that fails ends it."""


def environment(var: Path, **settings: str) -> dict[str, str]:
    """A clean environment with free ports: nothing of this test run's own settings.

    Without probes, or the sandbox's bill would hold more than a test's own calls; and what is chosen is not
    left to chance.
    """
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    chosen = dict(zip(PORTS, map(str, ports.free(len(PORTS))), strict=True))
    return {**passed, "VAR_DIR": str(var), "PROBES": "0", "EXPLORE": "0", **chosen, **settings}


def start(var: Path, *arguments: str, wrap: tuple[str, ...] = (), **settings: str) -> subprocess.Popen[str]:
    """Start the supervisor; what it says is in `var`'s neighbour `NAME.out`."""
    with open(os.open(var.with_suffix(".out"), os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644), "w") as said:
        return subprocess.Popen(
            [*wrap, sys.executable, "-m", "aggregator.embedded", *arguments],
            cwd=PROJECT,
            env=environment(var, **settings),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=leash.dying_with_me(signal.SIGTERM),
        )


def await_ready(process: subprocess.Popen[str], var: Path, *, seconds: float = 120) -> dict[str, str]:
    """Wait for dev.json, which is written when all is ready."""
    until = time.monotonic() + seconds
    while not (var / "dev.json").exists():
        if process.poll() is not None or time.monotonic() > until:
            process.terminate()
            raise AssertionError(f"the product did not start:\n{var.with_suffix('.out').read_text()}")
        time.sleep(0.05)
    return json.loads((var / "dev.json").read_text())


def first_start() -> tuple[Path, subprocess.CompletedProcess[str]]:
    """What `deploy/dev --once` made of a folder that it had never seen, and said: once in a run of pytest."""
    shared = servers.shared()
    assert shared, "pytest does not run"
    folder = shared / "once"
    folder.mkdir(exist_ok=True)
    var, said = folder / "var", folder / "said.json"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            done = subprocess.run(
                [sys.executable, "-m", "aggregator.embedded", "--once"],
                cwd=PROJECT,
                env=environment(var),
                capture_output=True,
                text=True,
                check=False,
                timeout=180,
            )
            said.write_text(json.dumps([done.args, done.returncode, done.stdout, done.stderr]))
    return var, subprocess.CompletedProcess(*json.loads(said.read_text()))


def prepare(var: Path) -> None:
    """Give a new folder what a first start made of another: a database with schema, catalog and demo."""
    made, done = first_start()
    assert done.returncode == 0, done.stdout + done.stderr
    var.mkdir(parents=True)
    parts = [made / name for name in ("postgres", "secrets.json", "demo.json", "prepared")]
    parts += [*made.glob("stripe.sqlite3*"), *made.glob("static")]
    subprocess.run(["cp", "-a", *parts, var], check=True)


def processes_of(var: Path) -> dict[int, str]:
    """Every process that runs on `var`, by its command line, its environment or its folder."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                traces = [
                    command,
                    (entry / "environ").read_bytes(),
                    bytes(os.readlink(entry / "cwd"), "utf-8"),
                ]
                if any(bytes(str(var), "utf-8") in trace for trace in traces):
                    found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def eldest(pids: Collection[int]) -> int:
    """The one whose parent is none of them. Its number need not be the least: they begin anew."""
    (found,) = set(pids) - {child for pid in pids for child in leash.children(pid)}
    return found


def await_nothing(var: Path, *, seconds: float = 60) -> None:
    """Fail if a process of `var` is still there after a while."""
    until = time.monotonic() + seconds
    while left := processes_of(var):
        assert time.monotonic() < until, f"left running: {left}"
        time.sleep(0.05)


@dataclasses.dataclass(frozen=True)
class Product:
    """A running product and how to reach it."""

    process: subprocess.Popen[str]
    var: Path
    base_url: str
    api_base: str
    api_key: str
    management_key: str
    email: str
    password: str
    sandbox_url: str
    stripe_url: str

    @classmethod
    def launch(cls, var: Path, **settings: str) -> Product:
        """On a folder that is there already or, in pytest, on one that a first start has made ready."""
        if servers.shared() and not var.exists():
            prepare(var)
        process = start(var, "--no-request", **settings)
        return cls(process, var, **await_ready(process, var))

    @property
    def environment(self) -> dict[str, str]:
        """What its processes were given."""
        return dict(json.loads((self.var / "environment.json").read_text()))

    @property
    def database_url(self) -> str:
        return self.environment["DATABASE_URL"]

    @property
    def redis_url(self) -> str:
        return self.environment["REDIS_URL"]

    @property
    def mail_dir(self) -> Path:
        return self.var / "mail"

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a management command beside the product, as an operator does."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=self._beside(),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def manage_each(self, *commands: Sequence[str]) -> None:
        """Run several, one after the other, in one process: each alone would load all of Django."""
        done = subprocess.run(
            [sys.executable, "-c", _ONE_AFTER_THE_OTHER, *map(json.dumps, commands)],
            cwd=PROJECT,
            env=self._beside(),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _beside(self) -> dict[str, str]:
        """What a shell beside the product has."""
        passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return {**passed, "VAR_DIR": str(self.var)}

    def log(self, name: str) -> str:
        return (self.var / "log" / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """Stop it, if it runs yet, and fail if that takes long or leaves a process behind."""
        self.process.terminate()
        self.process.wait(60)
        await_nothing(self.var)
