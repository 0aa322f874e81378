"""`python -m billing.sandbox`: the simulated Stripe, on STRIPE_SANDBOX_PORT, only where EMBEDDED is on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import uvicorn

from billing.sandbox import clocks
from billing.sandbox.app import Sandbox

HOST = "127.0.0.1"
_TICK_SECONDS = 5
ON = ("1", "true", "yes", "on", "y", "t", "ok")


async def _run(port: int) -> None:
    folder = Path(os.environ.get("VAR_DIR", "").strip() or "var")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "stripe.sqlite3"
    path.touch(mode=0o600)
    sandbox = Sandbox(
        path,
        key=os.environ.get("STRIPE_SECRET_KEY", ""),
        url=f"http://{HOST}:{port}",
        webhook_url=os.environ.get("STRIPE_WEBHOOK_URL", ""),
        webhook_secret=os.environ.get("STRIPE_WEBHOOK_SECRETS", "").partition(",")[0].strip(),
    )
    config = uvicorn.Config(
        sandbox,
        host=HOST,
        port=port,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda signum, frame: None)  # uvicorn stops by itself, then raises them again
    ticking = asyncio.create_task(_tick(sandbox))
    await server.serve()
    ticking.cancel()
    await sandbox.stop()


async def _tick(sandbox: Sandbox) -> None:
    """Renewals, retries and ends come by themselves, as time passes."""
    while True:
        await asyncio.sleep(_TICK_SECONDS)
        clocks.catch_up(sandbox.account)
        sandbox.account.flush()


def main() -> int:
    if os.environ.get("EMBEDDED", "").strip().lower() not in ON:
        sys.stderr.write("The Stripe sandbox only runs with EMBEDDED=1: no money moves in it.\n")
        return 1
    if not os.environ.get("STRIPE_SECRET_KEY", "").strip():
        sys.stderr.write("The Stripe sandbox needs STRIPE_SECRET_KEY: the key that callers must show it.\n")
        return 1
    raw = os.environ.get("STRIPE_SANDBOX_PORT", "18081")
    try:
        port = int(raw)
    except ValueError:
        sys.stderr.write(f"STRIPE_SANDBOX_PORT must be a whole number, not {raw!r}.\n")
        return 1
    sys.stdout.write(f"The Stripe sandbox listens on http://{HOST}:{port}\n")
    sys.stdout.flush()
    asyncio.run(_run(port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
