"""The server's protocol: uvicorn's, which also tells an application at once when its client has left.

ASGI has a message for that, but waiting for it takes a task for each request. Here it is a callback, found
in `scope["extensions"]`.
"""

from __future__ import annotations

from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

WHEN_LEFT = "fairlead.when_left"
"""The extension: takes what to call when the client leaves, or None when that no longer matters."""


class Protocol(HttpToolsProtocol):
    _left: Callable[[], None] | None = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {WHEN_LEFT: self.when_left}  # type: ignore[dict-item]

    def when_left(self, callback: Callable[[], None] | None) -> None:
        """Called at once if the client is gone already."""
        self._left = callback
        if callback is not None and self.transport.is_closing():
            self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._tell()

    def _tell(self) -> None:
        callback, self._left = self._left, None
        if callback is not None:
            callback()
