"""A product whose PostgreSQL and Valkey are the test's own, behind a bad network, and how to break it all."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from aggregator.embedded import leash
from aggregator.embedded.postgres import Postgres
from aggregator.embedded.processes import Service
from aggregator.embedded.valkey import Valkey
from tests import product as products
from tests.desk import Desk, Organization
from tests.faults.load import Customer, Log, call
from tests.faults.proxy import FaultProxy
from tests.product import Product, processes_of
from tests.routing.gateway.caller import Sandbox
from tests.workers import lines_to_each

WORKERS = 2
LEASE = 3
SETTINGS = {
    "WEB_CONCURRENCY": str(WORKERS),
    "FIRST_EVENT_SECONDS": "5",
    "IDLE_SECONDS": "5",
    "TOTAL_SECONDS": "20",
    "HOLD_LEASE_SECONDS": str(LEASE),
    "GATE_TIMEOUT_MS": "1000",
    "GATE_GRACE_SECONDS": "10",
    "STARTING_CREDIT_USD": "0",
}


class Server:
    """One server process, to be killed and started again on the same folder and port."""

    def __init__(self, service: Service, said: Path) -> None:
        self._service = service
        self._said = said
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while True:
            if self._process is None or self._process.poll() is not None:
                self._process = self._spawn()  # one that was killed may leave something that must end first
            if self._service.is_ready():
                return
            assert time.monotonic() < until, self._said.read_text()[-2000:]
            time.sleep(0.05)

    def kill(self) -> None:
        """-9, with everything under it."""
        assert self._process is not None
        for pid in [self._process.pid, *leash.children(self._process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """To it and everything under it."""
        assert self._process is not None
        for pid in [self._process.pid, *leash.children(self._process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self._service.stop_signal)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()

    def _spawn(self) -> subprocess.Popen[bytes]:
        service = self._service
        with self._said.open("ab") as said:
            return subprocess.Popen(
                list(service.command),
                env=dict(service.environment),
                cwd=self._said.parent,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                user=service.user,
                group=service.user,
                extra_groups=None if service.user is None else [],
                preexec_fn=leash.dying_with_me(service.stop_signal),
            )


@dataclass
class Stand:
    """The product under test. `database` and `redis` are the ways around the bad network."""

    product: Product
    desk: Desk
    sandbox: Sandbox
    postgres: Server
    valkey: Server
    to_postgres: FaultProxy
    to_valkey: FaultProxy
    database: str
    redis: str
    crashes: Path
    _master: int = 0
    opened: dict[int, int] = field(default_factory=dict)
    """What each organization was given, in nanos."""

    # ── Customers ────────────────────────────────────────────────────────────────────────────────

    def open(self, *, usd: str = "10", plan: str = "free") -> Organization:
        organization = self.desk.open(usd=usd, plan=plan)
        self.opened[organization.id] = int(usd) * 10**9
        return organization

    def make_known(self, customers: Iterable[Customer], log: Log) -> None:
        """Every worker knows these keys from a call of each."""
        with lines_to_each(self.product.api_base, self.workers()) as lines:
            for customer in customers:
                for line in lines:
                    entry = call(self.product.api_base, customer, log, max_tokens=1, at=line)
                    assert entry.outcome == "ok", entry

    # ── Processes ────────────────────────────────────────────────────────────────────────────────

    def master(self) -> int:
        """gunicorn's own process."""
        if not self._master or not Path(f"/proc/{self._master}").exists():
            ours = {pid for pid, said in processes_of(self.product.var).items() if "gunicorn" in said}
            found = {pid for pid in ours if not any(pid in leash.children(other) for other in ours)}
            assert len(found) == 1, f"gunicorn ended: {found}\n{self.log()}"
            (self._master,) = found
        return self._master

    def workers(self) -> list[int]:
        return leash.children(self.master())

    def celery(self) -> int:
        (pid,) = (
            pid
            for pid, said in processes_of(self.product.var).items()
            if "celery" in said.split(" -s ")[0] and "worker" in said
        )
        return pid

    def await_ready(self, *, seconds: float = 60) -> None:
        """Until all workers serve: each has a spool that is open, and none is left of the dead."""
        until = time.monotonic() + seconds
        while True:
            with contextlib.suppress(psycopg.Error):
                if len(self.workers()) == WORKERS and self.pids_of_spools() == set(self.workers()):
                    return
            assert time.monotonic() < until, f"{self.workers()} {self.pids_of_spools()}\n{self.log()}"
            time.sleep(0.1)

    def pids_of_spools(self) -> set[int]:
        return {int(pid) for (pid,) in self.ask("SELECT pid FROM spools")}

    def log(self) -> str:
        return self.product.log("gateway")[-6000:]

    def arm(self, point: str) -> None:
        """The next process of the product that comes by this place dies there."""
        (self.crashes / point).touch()

    def armed(self, point: str) -> bool:
        return (self.crashes / point).exists()

    # ── PostgreSQL ───────────────────────────────────────────────────────────────────────────────

    def ask(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Past the proxy."""
        with psycopg.connect(self.database, autocommit=True, connect_timeout=30) as connection:
            return connection.execute(query, values or None).fetchall()  # type: ignore[call-overload]

    @property
    def spools(self) -> Path:
        return self.product.var / "spool"

    def heal(self) -> None:
        """No fault is left: what a test that failed may have left behind, too."""
        for proxy in (self.to_postgres, self.to_valkey):
            proxy.up()
        for server in (self.postgres, self.valkey):
            server.signal(signal.SIGCONT)
            server.start()
        for point in self.crashes.iterdir():
            point.unlink()


def _through(url: str, proxy: FaultProxy) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{proxy.port}")))


@contextlib.contextmanager
def running(folder: Path, **settings: str) -> Iterator[Stand]:
    """Start everything; stop it, whatever state the test left it in."""
    with contextlib.ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        crashes = folder / "crashes"
        crashes.mkdir()
        products.prepare(folder / "var")
        (folder / "var" / "postgres").rename(folder / "postgres")
        secrets = json.loads((folder / "var" / "secrets.json").read_text())
        database = Postgres(folder / "postgres", password=secrets["postgres_password"])
        database.prepare()
        cache = Valkey(folder / "valkey")
        postgres = Server(database.service(), folder / "postgres.log")
        valkey = Server(cache.service(), folder / "valkey.log")
        for server in (postgres, valkey):
            stack.callback(server.stop)
            server.start()
        to_postgres = stack.enter_context(FaultProxy(database.port))
        to_valkey = stack.enter_context(FaultProxy(cache.port))
        chosen = {
            **SETTINGS,
            "DATABASE_URL": _through(database.url, to_postgres),
            "REDIS_URL": _through(cache.url, to_valkey),
            "CRASH_DIR": str(crashes),
            **settings,
        }
        product = Product.launch(folder / "var", **chosen)
        stack.callback(product.stop)
        desk = Desk(product, DATABASE_URL=database.url, REDIS_URL=cache.url)
        stack.callback(desk.close)
        sandbox = stack.enter_context(Sandbox(product.sandbox_url))
        stand = Stand(
            product,
            desk,
            sandbox,
            postgres,
            valkey,
            to_postgres,
            to_valkey,
            database=database.url,
            redis=cache.url,
            crashes=crashes,
        )
        yield stand
        stand.heal()
