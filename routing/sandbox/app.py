"""The sandbox as one server: the providers, and what a person or a test may look at."""

from __future__ import annotations

import asyncio
import json
import time

from routing.sandbox.bill import Bill
from routing.sandbox.conditions import Conditions, Invalid
from routing.sandbox.fleet import PROVIDERS
from routing.sandbox.providers import Providers
from routing.sandbox.wire import Connection, Request

MOST_RECENT = 500


class Sandbox:
    def __init__(self, *, pace: float | None = None) -> None:
        self.bill = Bill()
        self.conditions = Conditions()
        self._providers = Providers(self.bill, self.conditions, pace=pace)
        self._connections: set[Connection] = set()

    async def serve(self, request: Request, connection: Connection) -> None:
        if request.path.startswith("/_sandbox/"):
            self._show(request, connection)
        else:
            await self._providers.serve(request, connection)

    async def listen(self, host: str, port: int) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(
            lambda: Connection(self.serve, self._connections), host, port, backlog=2048
        )

    def close_connections(self) -> None:
        for connection in list(self._connections):
            connection.cut()

    def _show(self, request: Request, connection: Connection) -> None:
        """`health`, `bill`, `calls`, `conditions`; `conditions` and `reset` with POST."""
        what = request.method, request.path.removeprefix("/_sandbox/")
        try:
            if what == ("GET", "health"):
                data: object = {"ok": True, "providers": list(PROVIDERS)}
            elif what == ("GET", "bill"):
                data = self.bill.as_data(request.query)
            elif what == ("GET", "calls"):
                recent = list(self.bill.find(request.query))[-MOST_RECENT:]
                data = {
                    "in_flight": [call.as_data() for call in self.bill.in_flight],
                    "recent": [call.as_data() for call in recent],
                }
            elif what == ("GET", "conditions"):
                data = self.conditions.as_data(time.monotonic())
            elif what == ("POST", "conditions"):
                self.conditions.post(request.body, time.monotonic())
                data = {"ok": True, "at": time.time()}
            elif what == ("POST", "reset"):
                self.bill.reset()
                self.conditions.clear()
                data = {"ok": True}
            else:
                said = b'{"error": "health, bill, calls, conditions; POST conditions, reset"}'
                connection.reply(404, said)
                return
        except Invalid as invalid:
            wrong = {"type": "invalid_conditions", "message": invalid.message, "param": invalid.param}
            connection.reply(400, json.dumps({"error": wrong}).encode())
            return
        except ValueError as error:
            connection.reply(400, json.dumps({"error": str(error)}).encode())
            return
        connection.reply(200, json.dumps(data).encode())
