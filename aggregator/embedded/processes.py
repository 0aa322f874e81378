"""The supervisor: starts services in stages, waits until each answers, restarts, stops in reverse."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from aggregator.embedded import leash
from aggregator.embedded.report import Failure, say

_LOG_BYTES_KEPT = 16 * 1024 * 1024
_CALM_SECONDS = 60.0
_BACKOFF_MOST_SECONDS = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """A program that runs until it is stopped, and how to tell that it answers."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    is_ready: Callable[[], bool]
    stop_signal: signal.Signals = signal.SIGTERM
    start_seconds: float = 60.0
    stop_seconds: float = 10.0
    user: int | None = None


@dataclasses.dataclass(slots=True)
class _Running:
    service: Service
    process: subprocess.Popen[bytes]
    began: float
    crashes: int = 0
    restart_at: float | None = None


class Supervisor:
    """Owns every process it starts. Used by one thread: the kernel ties a child to the thread that forked."""

    def __init__(self, directory: Path, log_dir: Path) -> None:
        self.directory = directory
        self.log_dir = log_dir
        self._stages: list[list[_Running]] = []

    def start(self, *services: Service) -> None:
        """Start one stage and return when all of it is ready."""
        stage: list[_Running] = []
        self._stages.append(stage)
        for service in services:
            stage.append(_Running(service, self._spawn(service), time.monotonic()))
        for running in stage:
            self._await(running)

    def run(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], *, seconds: float
    ) -> None:
        """Run a program to its end; anything but success is a `Failure` with the last line it wrote."""
        process = self._spawn(Service(name, command, environment, lambda: True))
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{name} did not end within {seconds:.0f} s; see {self.log_path(name)}") from None
        finally:
            leash.kill_group(process.pid)
            process.wait()
        if code != 0:
            raise Failure(f"{name} failed: {self._last_words(name)}; see {self.log_path(name)}")

    def watch(self) -> None:
        """Keep every service running; returns only by an exception, such as a request to stop."""
        while True:
            self.tend()
            time.sleep(0.2)

    def tend(self) -> None:
        """One look: restart what ended, more slowly the more often it does."""
        now = time.monotonic()
        leash.reap_orphans(self.pids())
        for running in self._all():
            if running.restart_at is not None:
                if now >= running.restart_at:
                    running.process, running.began = self._spawn(running.service), now
                    running.restart_at = None
            elif (code := running.process.poll()) is not None:
                leash.kill_group(running.process.pid)  # what it left would hold its port
                running.crashes = 1 if now - running.began > _CALM_SECONDS else running.crashes + 1
                wait = min(_BACKOFF_MOST_SECONDS, 0.25 * 2 ** (running.crashes - 1))
                running.restart_at = now + wait
                name = running.service.name
                say(f"{name} ended by itself ({_ending(code)}); again in {wait:g} s ({self.log_path(name)})")

    def stop(self) -> None:
        """Stop stage by stage in reverse, and whatever the services left behind."""
        while self._stages:
            stage = self._stages.pop()
            for running in stage:
                if running.process.poll() is None:
                    running.process.send_signal(running.service.stop_signal)
            for running in stage:
                try:
                    running.process.wait(running.service.stop_seconds)
                except subprocess.TimeoutExpired:
                    running.process.kill()
                leash.kill_group(running.process.pid)
                running.process.wait()

    def check_running(self) -> None:
        for running in self._all():
            self._refuse_if_ended(running)

    def pids(self) -> set[int]:
        """The services' own processes; each leads a group that holds what it starts."""
        return {running.process.pid for running in self._all()}

    def log_path(self, name: str) -> Path:
        return self.log_dir / f"{name}.log"

    def _spawn(self, service: Service) -> subprocess.Popen[bytes]:
        with self._open_log(service.name) as log:
            try:
                return subprocess.Popen(
                    list(service.command),
                    env=dict(service.environment),
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    user=service.user,
                    group=service.user,
                    extra_groups=None if service.user is None else [],
                    preexec_fn=leash.dying_with_me(service.stop_signal),
                )
            except OSError as error:
                raise Failure(f"{service.name} cannot be started: {error}") from error

    def _open_log(self, name: str) -> IO[bytes]:
        path = self.log_path(name)
        if path.exists() and path.stat().st_size > _LOG_BYTES_KEPT:
            path.replace(path.with_suffix(".log.1"))
        return os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "ab")

    def _await(self, running: _Running) -> None:
        service = running.service
        until = running.began + service.start_seconds
        while not service.is_ready():
            self._refuse_if_ended(running)
            if time.monotonic() > until:
                raise Failure(
                    f"{service.name} did not answer within {service.start_seconds:.0f} s; "
                    f"see {self.log_path(service.name)}"
                )
            time.sleep(0.02)
        # Something else may answer at the same address while our process is already gone.
        self._refuse_if_ended(running)

    def _refuse_if_ended(self, running: _Running) -> None:
        if (code := running.process.poll()) is not None:
            name = running.service.name
            raise Failure(
                f"{name} ended while starting ({_ending(code)}): {self._last_words(name)}; "
                f"see {self.log_path(name)}"
            )

    def _last_words(self, name: str) -> str:
        with self.log_path(name).open("rb") as log:
            log.seek(max(0, self.log_path(name).stat().st_size - 4096))
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()]
        return next((line[:300] for line in reversed(lines) if line), "it said nothing")

    def _all(self) -> list[_Running]:
        return [running for stage in self._stages for running in stage]


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
