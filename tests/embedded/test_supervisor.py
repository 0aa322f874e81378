"""The supervisor leaves nothing running, repairs what was left half-made, and fails in one line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.embedded import ports, state
from aggregator.embedded.processes import Service, Supervisor
from tests import product

PARTS = ("--parts", "postgres,valkey")
_AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def _identities() -> list[tuple[str, ...]]:
    """As ourselves; as a plain user too, where root may become one that reaches our Python."""
    if os.geteuid() != 0:
        return [()]
    probe = [*_AS_NOBODY, sys.executable, "-c", "import aggregator.embedded"]
    reached = subprocess.run(probe, cwd=product.PROJECT, capture_output=True, check=False)
    return [(), _AS_NOBODY] if reached.returncode == 0 else [()]


@pytest.fixture(params=_identities(), ids=lambda wrap: "nobody" if wrap else "self")
def wrap(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return request.param


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on which it ran before: making a PostgreSQL anew takes a second of CPU."""
    var = tmp_path_factory.mktemp("stopped") / "var"
    process = _up(var)
    process.terminate()
    assert process.wait(60) == 0
    return var


@pytest.fixture
def var(tmp_path: Path, wrap: tuple[str, ...], stopped: Path) -> Iterator[Path]:
    """A copy of it; of another user's, where that user is to run on it."""
    if not wrap:
        subprocess.run(["cp", "-a", stopped, tmp_path / "var"], check=True)
        yield tmp_path / "var"
        return
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to others
        subprocess.run(["cp", "-a", stopped, f"{folder}/var"], check=True)
        subprocess.run(["chown", "-R", "65534:65534", folder], check=True)
        yield Path(folder) / "var"


def test_another_user_runs_it_on_a_folder_that_it_has_never_seen(wrap: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if wrap:
            os.chown(folder, 65534, 65534)
        process = _up(Path(folder) / "var", wrap)

        process.terminate()

        assert process.wait(60) == 0


def _up(var: Path, wrap: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    (var / "dev.json").unlink(missing_ok=True)  # a killed supervisor could not
    process = product.start(var, *PARTS, wrap=wrap)
    product.await_ready(process, var)
    return process


def _fail(var: Path, **settings: str) -> str:
    """Start what must fail, and return the one line that it says about it."""
    done = subprocess.run(
        [sys.executable, "-m", "aggregator.embedded", "--once", *PARTS],
        cwd=product.PROJECT,
        env=product.environment(var, **settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert f"(logs: {var / 'log'})" in done.stderr
    product.await_nothing(var)
    return done.stderr


def _runs(pid: int) -> bool:
    """Whether the process is there and more than an entry that nobody has collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_leaves_nothing_running(
    var: Path, wrap: tuple[str, ...], signum: signal.Signals
) -> None:
    process = _up(var, wrap)

    process.send_signal(signum)

    assert process.wait(60) == 0
    product.await_nothing(var)


def test_a_killed_guardian_leaves_nothing_running(var: Path, wrap: tuple[str, ...]) -> None:
    process = _up(var, wrap)

    process.kill()

    process.wait(60)
    product.await_nothing(var)
    assert "database system is shut down" in (var / "log" / "postgres.log").read_text()


def test_a_killed_supervisor_leaves_nothing_running(var: Path, wrap: tuple[str, ...]) -> None:
    process = _up(var, wrap)

    os.kill(int((var / "lock").read_text()), signal.SIGKILL)

    assert process.wait(60) == 128 + signal.SIGKILL
    product.await_nothing(var)


def test_a_start_after_a_kill_finds_its_data(var: Path, wrap: tuple[str, ...]) -> None:
    process = _up(var, wrap)
    os.kill(int((var / "lock").read_text()), signal.SIGKILL)
    process.wait(60)

    again = _up(var, wrap)

    again.terminate()
    assert again.wait(60) == 0


def test_a_taken_port_is_one_line_that_names_it_and_its_setting(tmp_path: Path) -> None:
    port = ports.free()[0]
    with socket.create_server(("127.0.0.1", port)):
        line = _fail(tmp_path / "var", POSTGRES_PORT=str(port))

    assert f"port {port}" in line
    assert "POSTGRES_PORT" in line


def test_two_services_on_one_port_are_refused(tmp_path: Path) -> None:
    port = str(ports.free()[0])

    line = _fail(tmp_path / "var", POSTGRES_PORT=port, VALKEY_PORT=port)

    assert "VALKEY_PORT and POSTGRES_PORT" in line


def test_a_setting_that_is_no_port_is_one_line(tmp_path: Path) -> None:
    assert "VALKEY_PORT must be a whole number" in _fail(tmp_path / "var", VALKEY_PORT="many")


def test_a_database_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    url = f"postgres://nobody:secret@127.0.0.1:{ports.free()[0]}/none"

    line = _fail(tmp_path / "var", DATABASE_URL=url)

    assert "DATABASE_URL" in line
    assert "secret" not in line


def test_an_interrupted_initdb_is_made_again(tmp_path: Path) -> None:
    var = tmp_path / "var"
    (var / "postgres.new" / "base").mkdir(parents=True)
    (var / "postgres.new" / "PG_VERSION").write_text("18\n")

    process = _up(var)

    process.terminate()
    assert process.wait(60) == 0
    assert not (var / "postgres.new").exists()


def test_data_without_its_secrets_is_one_line(tmp_path: Path) -> None:
    var = tmp_path / "var"
    (var / "postgres").mkdir(parents=True)

    assert "begin anew" in _fail(var)


def test_half_written_secrets_are_one_line(tmp_path: Path) -> None:
    var = tmp_path / "var"
    var.mkdir()
    (var / "secrets.json").write_text('{"secret_key": "a')

    assert "secrets.json cannot be read" in _fail(var)


def test_a_second_supervisor_on_one_folder_is_one_line(tmp_path: Path) -> None:
    var = tmp_path / "var"
    held = state.State(var)
    held.open()

    done = subprocess.run(
        [sys.executable, "-m", "aggregator.embedded", "--once", *PARTS],
        cwd=product.PROJECT,
        env=product.environment(var),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 1
    assert f"already running on {var} (process {os.getpid()})" in done.stderr
    held.close()


def test_what_holds_secrets_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    var = tmp_path / "var"
    process = _up(var)
    process.terminate()
    process.wait(60)

    modes = {path.name: path.stat().st_mode & 0o077 for path in var.iterdir()}

    assert set(modes.values()) == {0}, modes


def test_a_service_that_ends_by_itself_is_restarted_without_what_it_left(tmp_path: Path) -> None:
    counted = tmp_path / "starts"
    script = f"sleep 600 & echo $! >> {counted}; sleep 600"

    def counts() -> int:
        """Whole lines: the shell opens the file before it writes there."""
        return counted.read_text().count("\n") if counted.exists() else 0

    service = Service("sleeper", ["sh", "-c", script], dict(os.environ), lambda: counts() == 1)
    supervisor = Supervisor(tmp_path, tmp_path)
    supervisor.start(service)

    try:
        os.kill(next(iter(supervisor.pids())), signal.SIGKILL)
        until = time.monotonic() + 30
        while counts() < 2 and time.monotonic() < until:
            supervisor.tend()
            time.sleep(0.02)
    finally:
        supervisor.stop()

    left = [int(pid) for pid in counted.read_text().split()]
    assert len(left) == 2
    until = time.monotonic() + 30
    while any(_runs(pid) for pid in left):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_service_that_ends_while_starting_is_named_with_its_last_words(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, tmp_path)
    service = Service("broken", ["sh", "-c", "echo no such thing; exit 3"], dict(os.environ), lambda: False)

    with pytest.raises(Exception, match=r"broken ended while starting \(exit code 3\): no such thing"):
        supervisor.start(service)

    supervisor.stop()
