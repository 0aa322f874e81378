"""What the data plane costs, everything on: key, limits, hold, settle, spool, and the flush behind it.

    python -m tests.bench.data_plane [--seconds 8] [--only plain|stream]

Starts the product with one gateway worker, pinned to the first core; the bench's own instant provider and
load, PostgreSQL and Valkey share the second. CPU is time on a core, as the kernel counts it in nanoseconds,
of all threads of the gateway's worker. It is read twice a second, and the median window and the best one
are shown: on a machine that others use too, the best is nearer to the truth. So is a yardstick, a fixed
piece of Python run on the gateway's core before and after: the slower it is, the slower is everything else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from aggregator.embedded import ports
from tests.bench import machine
from tests.product import PROJECT, Product, processes_of

MODEL = "openai/gpt-6-luna"
PLAIN_IN_FLIGHT = (1, 16, 64)
STREAMS = (32, 256)
_WINDOW_SECONDS = 0.5
_GATEWAY_CORE, _OTHER_CORE = 0, max(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Row:
    """One line of the table; CPU in microseconds a unit, times in milliseconds."""

    what: str
    median: float
    best: float
    valkey: float
    postgres: float
    per_second: float
    added_p50: float
    added_p99: float
    rss_mb: float


def on_core(pids: list[int]) -> float:
    """Seconds that these processes have been on a core, their dead threads left out."""
    nanos = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            try:
                nanos += int((thread / "schedstat").read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return nanos / 1e9


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def pin(pids: list[int], core: int) -> None:
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})


class Bench:
    def __init__(self, product: Product, upstream: str) -> None:
        self.product, self.upstream = product, upstream
        ours = processes_of(product.var)
        serving = [pid for pid, command in ours.items() if "gunicorn" in command]
        (self.worker,) = (pid for pid in serving if parent(pid) in serving)  # the other is its master
        self.valkey = [pid for pid, command in ours.items() if "valkey" in command.split(" ")[0]]
        self.postgres = [pid for pid, command in ours.items() if "postgres" in command]
        pin([pid for pid in ours if pid not in serving], _OTHER_CORE)
        pin([self.worker], _GATEWAY_CORE)
        os.sched_setaffinity(0, {_OTHER_CORE})

    def load(self, base: str, kind: str, in_flight: int, seconds: float) -> subprocess.Popen[str]:
        model = "bench" if base == self.upstream else MODEL
        arguments = [base, self.product.api_key, model, kind, str(in_flight), str(seconds)]
        command = [sys.executable, "-m", "tests.bench.load", *arguments]
        return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)

    def served(self, kind: str) -> int:
        with urllib.request.urlopen(f"{self.upstream}/served") as answer:
            answers, chunks = map(int, answer.read().split())
        return answers if kind == "plain" else answers + chunks

    def measure(self, kind: str, in_flight: int, seconds: float) -> Row:
        finish(self.load(self.product.api_base, kind, in_flight, 2))  # warm
        direct = finish(self.load(self.upstream, kind, in_flight, 2))
        others = {"valkey": self.valkey, "postgres": self.postgres}
        before = {name: on_core(pids) for name, pids in others.items()}
        began, first = time.perf_counter(), self.served(kind)
        running = self.load(self.product.api_base, kind, in_flight, seconds)
        windows, at, used = [], first, on_core([self.worker])
        while running.poll() is None:
            time.sleep(_WINDOW_SECONDS)
            now, spent = self.served(kind), on_core([self.worker])
            if now - at > 50:
                windows.append((spent - used) / (now - at) * 1e6)
            at, used = now, spent
        passed = time.perf_counter() - began
        units = self.served(kind) - first
        answered = finish(running)
        mid = windows[1:-2]  # without the start of the load and its end
        per_unit = {name: (on_core(pids) - before[name]) / units * 1e6 for name, pids in others.items()}
        return Row(
            f"{'chat' if kind == 'plain' else 'streamed chunk'}, {in_flight} in flight",
            statistics.median(mid),
            min(mid),
            per_unit["valkey"],
            per_unit["postgres"],
            answered["calls"] / passed,
            answered["p50"] - direct["p50"],
            answered["p99"] - direct["p99"],
            rss_mb(self.worker),
        )


def finish(load: subprocess.Popen[str]) -> dict[str, float]:
    said = load.communicate()[0]
    if load.returncode:
        raise RuntimeError("the load has failed; its reason stands above")
    return dict(json.loads(said))


def table(rows: list[Row]) -> str:
    lines = [
        "| measured | gateway µs, median (best) | Valkey µs | PostgreSQL µs | calls/s "
        "| added p50 | added p99 | RSS |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.what} | {row.median:.0f} ({row.best:.0f}) | {row.valkey:.1f} | {row.postgres:.1f} | "
            f"{row.per_second:,.0f} | {row.added_p50:.1f} ms | {row.added_p99:.1f} ms | {row.rss_mb:.0f} MB |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--only", choices=("plain", "stream"))
    asked = parser.parse_args()
    (port,) = ports.free(1)
    upstream = f"http://127.0.0.1:{port}"
    provider = subprocess.Popen([sys.executable, "-m", "tests.bench.upstream", str(port)], cwd=PROJECT)
    with tempfile.TemporaryDirectory() as folder:
        product = Product.launch(
            Path(folder) / "var",
            WEB_CONCURRENCY="1",
            OPENAI_API_KEY="bench",
            OPENAI_BASE_URL=upstream,
            GATE_TIMEOUT_MS="2000",
        )
        try:
            pin([provider.pid], _OTHER_CORE)
            product.manage("grant", "demo", "100000")
            bench, rows, marks = Bench(product, upstream), [], [machine.yardstick(_GATEWAY_CORE)]
            wanted = [("plain", number) for number in PLAIN_IN_FLIGHT] + [("stream", n) for n in STREAMS]
            for kind, in_flight in wanted:
                if asked.only in (None, kind):
                    rows.append(bench.measure(kind, in_flight, asked.seconds))
                    marks.append(machine.yardstick(_GATEWAY_CORE))
        finally:
            product.stop()
            provider.terminate()
            provider.wait()
    marked = f"yardstick {min(marks):.1f} to {max(marks):.1f} ms"
    print(f"{time.strftime('%Y-%m-%d')}, {machine.described()}; {marked}\n")
    print(table(rows))


if __name__ == "__main__":
    main()
