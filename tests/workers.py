"""A connection to each worker of a gateway: for what every worker must have seen before the test goes on.

Which worker accepts a connection is the kernel's choice, and not an even one: calling often enough reaches
all of them nearly always, which fails a run of some thousand tests now and then.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import urlsplit


@contextlib.contextmanager
def lines_to_each(
    url: str, pids: Collection[int], *, seconds: float = 30
) -> Iterator[list[http.client.HTTPConnection]]:
    """One open connection to each process of `pids`, which share the port of `url` on 127.0.0.1."""
    where = urlsplit(url)
    until = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        found: dict[int, http.client.HTTPConnection] = {}
        while len(found) < len(pids):
            assert time.monotonic() < until, f"only {sorted(found)} of {sorted(pids)} accept"
            line = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
            stack.callback(line.close)
            line.connect()
            found.setdefault(_who_accepted(line, pids, until), line)
        yield list(found.values())


def await_listed(api_base: str, pids: Collection[int], model: str, *, seconds: float = 30) -> None:
    """Until each of them lists this model."""
    until, path = time.monotonic() + seconds, f"{urlsplit(api_base).path}/models/{model}"
    while True:
        with lines_to_each(api_base, pids) as lines:
            if all(_status(line, path) == 200 for line in lines):
                return
        assert time.monotonic() < until, f"{model} is not listed"
        time.sleep(0.1)


def _status(line: http.client.HTTPConnection, path: str) -> int:
    line.request("GET", path)
    answer = line.getresponse()
    answer.read()
    return answer.status


def _who_accepted(line: http.client.HTTPConnection, pids: Collection[int], until: float) -> int:
    while True:
        inode = _other_end(line)
        for pid in pids:
            if inode and inode in _sockets_of(pid):
                return pid
        assert time.monotonic() < until, f"none of {sorted(pids)} accepts"
        time.sleep(0.005)


def _other_end(line: http.client.HTTPConnection) -> str:
    """The inode of the socket at the server's side of a connection within this machine."""
    ours, theirs = f"{line.sock.getsockname()[1]:04X}", f"{line.sock.getpeername()[1]:04X}"
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = row.split()
        if fields[1].endswith(f":{theirs}") and fields[2].endswith(f":{ours}"):
            return f"socket:[{fields[9]}]"
    return ""


def _sockets_of(pid: int) -> set[str]:
    found = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(os.readlink(handle))
    return found
