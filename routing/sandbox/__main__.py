"""`python -m routing.sandbox`: the simulated providers, on SANDBOX_PORT, only where EMBEDDED is on."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys

import uvloop

from routing.sandbox.app import Sandbox

HOST = "127.0.0.1"
ON = ("1", "true", "yes", "on", "y", "t", "ok")


async def _run(port: int) -> None:
    sandbox = Sandbox()
    server = await sandbox.listen(HOST, port)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    sys.stdout.write(f"The sandbox listens on http://{HOST}:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()
    sandbox.close_connections()


def main() -> int:
    if os.environ.get("EMBEDDED", "").strip().lower() not in ON:
        sys.stderr.write(
            "The sandbox only runs with EMBEDDED=1: it answers for providers that are not there.\n"
        )
        return 1
    gc.set_threshold(50_000, 50, 50)  # the bill keeps many small records: looking at them often is wasted
    raw = os.environ.get("SANDBOX_PORT", "18080")
    try:
        port = int(raw)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(port))
    except ValueError:
        sys.stderr.write(f"SANDBOX_PORT must be a whole number, not {raw!r}.\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"The sandbox cannot listen on port {raw}: {error.strerror or error}.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
