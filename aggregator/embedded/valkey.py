"""A Valkey of our own. It keeps nothing on disk: all that it holds can be rebuilt from PostgreSQL."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path
from types import TracebackType

from aggregator.embedded import binaries, ports
from aggregator.embedded.processes import Service, Supervisor
from aggregator.embedded.state import write_private


class Valkey:
    """One server on one port. As a context manager it starts and stops by itself."""

    def __init__(self, directory: Path, *, port: int | None = None, password: str | None = None) -> None:
        self.directory = directory.absolute()
        self.port = port or ports.free()[0]
        self.password = password or secrets.token_urlsafe(24)
        self.program = binaries.valkey_server()
        self._supervisor: Supervisor | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}"

    def service(self) -> Service:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = self.directory / "valkey.conf"
        # In a file, because a command line is read by every user of the machine.
        write_private(
            config,
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\ndir {_quoted(self.directory)}\n"
            'save ""\nappendonly no\nmaxmemory-policy noeviction\ndatabases 64\ndaemonize no\n',
        )
        return Service("valkey", [str(self.program), str(config)], {"LC_ALL": "C.UTF-8"}, self._is_ready)

    def __enter__(self) -> Valkey:
        service = self.service()
        self._supervisor = Supervisor(self.directory, self.directory)
        try:
            self._supervisor.start(service)
        except BaseException:
            self._supervisor.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._supervisor is not None:
            self._supervisor.stop()

    def _is_ready(self) -> bool:
        """Asked in the protocol's own words: the one door to Redis needs settings that do not exist yet."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2:
                    received = connection.recv(256)
                    if not received:
                        return False
                    answer += received
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
