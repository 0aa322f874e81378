"""The sandbox as one server: the providers, and what a person or a test may look at."""

from __future__ import annotations

import asyncio
import json

from routing.sandbox.bill import Bill
from routing.sandbox.fleet import PROVIDERS
from routing.sandbox.providers import Providers
from routing.sandbox.wire import Connection, Request

MOST_RECENT = 500


class Sandbox:
    def __init__(self, *, pace: float | None = None) -> None:
        self.bill = Bill()
        self._providers = Providers(self.bill, pace=pace)
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
        """`health`, `bill`, `calls`, and `reset` with POST."""
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
            elif what == ("POST", "reset"):
                self.bill.reset()
                data = {"ok": True}
            else:
                connection.reply(404, b'{"error": "health, bill, calls; POST reset"}')
                return
        except ValueError as error:
            connection.reply(400, json.dumps({"error": str(error)}).encode())
            return
        connection.reply(200, json.dumps(data).encode())
