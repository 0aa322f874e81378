"""One product behind a bad network for every test of this folder, and customers of each test's own."""

from __future__ import annotations

import os
import random
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.faults import stand as stands
from tests.faults.load import Customer, Load, Log
from tests.faults.oracle import Verdict, agree
from tests.faults.stand import Stand


@pytest.fixture(scope="session")
def _stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Marked `xdist_group("faults")`, every test of this folder shares it."""
    with stands.running(tmp_path_factory.mktemp("faults")) as running:
        yield running


@pytest.fixture
def stand(_stand: Stand) -> Iterator[Stand]:
    """The shared product, whole again after each test."""
    _stand.await_ready()
    yield _stand
    _stand.heal()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What chance does in this test: each day the same, in a long one something new; FAULTS_SEED replays."""
    new = request.node.get_closest_marker("long") is not None
    usual = random.SystemRandom().randrange(10**6) if new else zlib.crc32(request.node.name.encode()) % 10**6
    chosen = int(os.environ.get("FAULTS_SEED") or usual)
    print(f"FAULTS_SEED={chosen}")
    return chosen


@pytest.fixture
def customers(stand: Stand) -> list[Customer]:
    """Two organizations with ten dollars each; three keys."""
    found = []
    for keys in (2, 1):
        organization = stand.open()
        found += [Customer(organization, *stand.desk.key(organization)) for _ in range(keys)]
    return found


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def load(stand: Stand, customers: list[Customer], log: Log, seed: int) -> Callable[..., Load]:
    """`with load(callers=4): …` calls for as long as the block lasts."""
    return lambda **how: Load(stand.product.api_base, customers, log=log, seed=seed, **how)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`figures("F13", kills=5, …)` is a line of the table that ends a run."""
    return lambda row, **values: request.node.user_properties.append(("figures", {"row": row, **values}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == "figures"
    ]
    if not lines:
        return
    names = list(dict.fromkeys(name for line in lines for name in line))
    table = [names, *([str(line.get(name, "")) for name in names] for line in lines)]
    widths = [max(len(row[n]) for row in table) for n in range(len(names))]
    terminalreporter.section("faults")
    for row in table:
        terminalreporter.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


@pytest.fixture
def at_rest(stand: Stand, customers: list[Customer], log: Log, seed: int) -> Callable[..., Verdict]:
    """After the fault: everything must come to rest and agree."""
    return lambda **how: agree(stand, customers, log, seed=seed, **how)


@dataclass(frozen=True)
class Trial:
    """All of the above, for a test that needs all of it."""

    stand: Stand
    customers: list[Customer]
    log: Log
    load: Callable[..., Load]
    at_rest: Callable[..., Verdict]
    figures: Callable[..., None]
    chance: random.Random
    began: float = field(default_factory=time.monotonic)

    def report(self, row: str, verdict: Verdict, **values: object) -> None:
        """A line of the table at the end."""
        seconds = round(time.monotonic() - self.began, 1)
        seen = {"lost": verdict.lost, "double": verdict.double, "held": verdict.holds, "seconds": seconds}
        self.figures(row, requests=len(self.log.entries), **values, **seen)


@pytest.fixture
def trial(request: pytest.FixtureRequest, seed: int) -> Trial:
    names = ("stand", "customers", "log", "load", "at_rest", "figures")
    return Trial(*(request.getfixturevalue(name) for name in names), random.Random(seed))
