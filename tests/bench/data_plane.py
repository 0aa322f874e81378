"""CPU per request of the data plane, everything on: authentication, limits, hold, settle, spool.

    python tests/bench/data_plane.py GATEWAY_PID API_BASE API_KEY

CPU is user + system seconds of the gateway's process divided by requests: machines are noisy, so wall
clock says little. Pin the gateway to one core, and the load and the sandbox to another. `sandbox/instant`
answers at once; `sandbox/stream-100` sends 100 chunks, 5 ms apart. PostgreSQL and Valkey are reported
beside it when their process ids follow as `name=pid`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import aiohttp

_TICK = os.sysconf("SC_CLK_TCK")
_MESSAGES = [{"role": "user", "content": "Say hello to the harbour. " * 8}]


def cpu(pid: int) -> float:
    """User + system seconds of a process and its dead children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[n]) for n in (11, 12, 13, 14)) / _TICK


def family(pid: int) -> list[int]:
    """A process and everything under it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


class Load:
    def __init__(self, base: str, key: str) -> None:
        self.url = f"{base}/chat/completions"
        self.headers = {"Authorization": f"Bearer {key}"}

    async def run(self, model: str, *, requests: int, at_once: int, stream: bool) -> tuple[int, int]:
        """(requests, chunks) that came back whole. Raises on anything else."""
        body = {"model": model, "messages": _MESSAGES, "max_tokens": 200, "stream": stream}
        left = iter(range(requests))
        chunks = 0
        connector = aiohttp.TCPConnector(limit=at_once)
        async with aiohttp.ClientSession(connector=connector, headers=self.headers) as session:

            async def worker() -> None:
                nonlocal chunks
                for _ in left:
                    async with session.post(self.url, json=body) as response:
                        answer = await response.read()
                        if response.status != 200 or (stream and not answer.endswith(b"data: [DONE]\n\n")):
                            raise RuntimeError(f"{response.status}: {answer[-500:]!r}")
                        chunks += answer.count(b"data: ") - 1 if stream else 1

            await asyncio.gather(*(worker() for _ in range(at_once)))
        return requests, chunks


async def measure(pids: dict[str, list[int]], load: Load, **asked: object) -> None:
    await load.run(**{**asked, "requests": 2000 if not asked["stream"] else 40})  # warm
    before = {name: sum(map(cpu, group)) for name, group in pids.items()}
    began = time.perf_counter()
    requests, chunks = await load.run(**asked)
    seconds = time.perf_counter() - began
    units = chunks if asked["stream"] else requests
    what = "streamed chunk" if asked["stream"] else "plain chat"
    used = {name: (sum(map(cpu, group)) - before[name]) / units * 1e6 for name, group in pids.items()}
    figures = "  ".join(f"{name} {micros:6.1f} µs" for name, micros in used.items())
    print(f"{what:15} × {units:6}: {figures}   ({requests / seconds:,.0f} requests/s)")


async def main() -> None:
    pid, base, key, *others = sys.argv[1:]
    pids = {"gateway": family(int(pid))}
    pids |= {name: family(int(number)) for name, _, number in (other.partition("=") for other in others)}
    load = Load(base, key)
    await measure(pids, load, model="sandbox/instant", requests=6000, at_once=32, stream=False)
    await measure(pids, load, model="sandbox/stream-100", requests=400, at_once=32, stream=True)


if __name__ == "__main__":
    asyncio.run(main())
