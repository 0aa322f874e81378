"""A product with two gateway workers and short windows for stopping, and what one sees of its processes."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from tests.desk import Desk
from tests.product import Product, processes_of
from tests.routing.gateway.caller import Caller, Sandbox
from tests.workers import lines_to_each

LISTEN_SECONDS = 2
DRAIN_SECONDS = 6
SETTINGS = {
    "WEB_CONCURRENCY": "2",
    "DRAIN_LISTEN_SECONDS": str(LISTEN_SECONDS),
    "DRAIN_SECONDS": str(DRAIN_SECONDS),
    "IDLE_SECONDS": "600",
    "FIRST_EVENT_SECONDS": "600",
    "TOTAL_SECONDS": "600",
    "STALLED_READER_SECONDS": "2",
    "READ_HEAD_SECONDS": "2",
    "READ_BODY_SECONDS": "2",
    "KEEP_ALIVE_SECONDS": "5",
    "GATE_TIMEOUT_MS": "2000",
    "HOLD_LEASE_SECONDS": "10",
    "MAX_CALLS_PER_WORKER": "40",
    "MAX_CALLS_PER_ORGANIZATION": "20",
    "MAX_CONNECTIONS": "400",
    "PROVIDER_CONNECTIONS": "40",
    "STARTING_CREDIT_USD": "0",
    "KEY_CACHE_SECONDS": "1",
    "DATABASE_POOL": "2",
}


@dataclass
class House:
    """A running product, seen from its processes."""

    product: Product
    desk: Desk
    sandbox: Sandbox
    _callers: list[Caller] = field(default_factory=list)

    @property
    def master(self) -> int:
        ours = self._gunicorns()
        (found,) = (pid for pid, parent in ours.items() if parent not in ours)
        return found

    @property
    def workers(self) -> set[int]:
        ours = self._gunicorns()
        return {pid for pid, parent in ours.items() if parent in ours}

    def _gunicorns(self) -> dict[int, int]:
        """Each process of the gateway with its parent."""
        found = {}
        for pid, command in processes_of(self.product.var).items():
            if "gunicorn" in command:
                with contextlib.suppress(OSError):
                    found[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        return found

    def await_workers(self, *, without: Iterable[int] = ()) -> None:
        """Until two workers serve, and none of `without` is there any more, nor a spool of theirs."""
        gone = set(without)
        wait_for(lambda: len(self.workers) == 2 and not self.workers & gone, seconds=60)
        wait_for(self._is_ready, seconds=60)
        wait_for(
            lambda: self.spools() == self.spool_folders() == 2,
            seconds=60,
            what="each worker has a spool, and there is no other",
        )

    def _is_ready(self) -> bool:
        ready = f"{self.product.base_url}/health/ready"
        try:
            return all(httpx.get(ready, trust_env=False, timeout=30).status_code == 200 for _ in range(8))
        except httpx.HTTPError:
            return False

    def caller(self, usd: str = "10") -> Caller:
        organization = self.desk.open(usd=usd)
        text, public_id = self.desk.key(organization)
        made = Caller(self.product.api_base, text, key_id=public_id, organization=organization)
        made.http.timeout = httpx.Timeout(60)
        self._callers.append(made)
        return made

    def make_known(self, caller: Caller) -> None:
        """Both workers know this key, from a call of each."""
        body = json.dumps(caller.body(max_tokens=1))
        headers = {"Authorization": f"Bearer {caller.text}", "Content-Type": "application/json"}
        with lines_to_each(caller.api_base, self.workers) as lines:
            for line in lines:
                line.request("POST", f"{urlsplit(caller.api_base).path}/chat/completions", body, headers)
                answer = line.getresponse()
                assert answer.status == 200, answer.read()
                answer.read()

    def spools(self) -> int:
        """Rows of open spools."""
        with psycopg.connect(self.product.database_url) as connection:
            (count,) = connection.execute("SELECT count(*) FROM spools").fetchone() or (0,)
            return int(count)

    def spool_folders(self) -> int:
        return sum(1 for path in (self.product.var / "spool").iterdir() if path.is_dir())

    def close(self) -> None:
        for caller in self._callers:
            caller.http.close()


def wait_for(is_so: Callable[[], bool], *, seconds: float = 60, what: str = "it did not come about") -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, what
        time.sleep(0.1)


@pytest.fixture(scope="session")
def _house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Marked `xdist_group("processes")`, every test of this folder shares it."""
    product = Product.launch(tmp_path_factory.mktemp("processes") / "var", **SETTINGS)
    desk = Desk(product)
    with Sandbox(product.sandbox_url) as sandbox:
        yield House(product, desk, sandbox)
    desk.close()
    product.stop()


@pytest.fixture
def house(_house: House) -> Iterator[House]:
    _house.await_workers()
    yield _house
    _house.close()
    _house.await_workers()
