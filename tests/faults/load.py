"""Customers that call without end, and their own log of what they got: the first account of the truth.

Every call carries a label of its own, as `User-Agent` and as `user`, so that the client's log, the rows and
the sandbox's bill can be laid side by side. An outcome is one of three: `ok` (the whole answer, with its id
and its cost), `failed` (an error was told), `unknown` (the connection broke: the rows must say).
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from tests.desk import Organization

Outcome = Literal["ok", "failed", "unknown"]
MESSAGES = [{"role": "user", "content": "Say hello to the harbour"}]
_labels = itertools.count(1)


@dataclass(frozen=True)
class Customer:
    """A key and whose it is."""

    organization: Organization
    text: str
    key_id: str = ""


@dataclass
class Entry:
    """One call as its client saw it."""

    label: str
    organization: int
    streamed: bool
    outcome: Outcome = "unknown"
    status: int | None = None
    id: str = ""
    cost: int = 0
    error: str = ""
    began: float = 0.0
    first: float | None = None
    seconds: float = 0.0
    retry_after: str | None = None
    bytes: int = 0


@dataclass
class Log:
    entries: list[Entry] = field(default_factory=list)

    def of(self, outcome: Outcome) -> list[Entry]:
        return [entry for entry in self.entries if entry.outcome == outcome]

    @property
    def counts(self) -> Counter[str]:
        """Outcomes, with the error's status and type."""
        return Counter(
            f"{entry.outcome} {entry.status or '-'} {entry.error}".strip() for entry in self.entries
        )


def call(
    api_base: str,
    customer: Customer,
    log: Log,
    *,
    model: str = "sandbox/instant",
    stream: bool = False,
    timeout: float = 30,
    at: http.client.HTTPConnection | None = None,
    **fields: Any,
) -> Entry:
    """One call; never raises for what a network or a server may do."""
    where = urlsplit(api_base)
    label = f"call-{next(_labels)}-{time.time_ns():x}"
    entry = Entry(label, customer.organization.id, stream, began=time.monotonic())
    log.entries.append(entry)
    body = {"model": model, "messages": MESSAGES, "user": label, **fields}
    body |= {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    headers = {
        "Authorization": f"Bearer {customer.text}",
        "Content-Type": "application/json",
        "User-Agent": label,
    }
    connection = at or http.client.HTTPConnection(where.hostname or "", where.port, timeout=timeout)
    try:
        connection.request("POST", f"{where.path}/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        entry.status = answer.status
        entry.id = answer.headers.get("x-generation-id", "")
        entry.retry_after = answer.headers.get("retry-after")
        if answer.status != 200:
            _refused(entry, json.loads(answer.read()))
        elif stream:
            _follow(entry, answer)
        else:
            data = json.loads(answer.read())
            entry.id, entry.cost = data["id"], data["usage"]["cost_nanos"]
            entry.outcome = "ok"
    except ConnectionRefusedError:
        entry.outcome, entry.error = "failed", "connection_refused"
        connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        entry.error = type(error).__name__
        connection.close()
    finally:
        entry.seconds = time.monotonic() - entry.began
        if at is None:
            connection.close()
    return entry


def _follow(entry: Entry, answer: http.client.HTTPResponse) -> None:
    """A stream is whole when it ends in `[DONE]`, and failed when an error event ends it."""
    done = False
    for line in answer:
        entry.bytes += len(line)
        if not line.startswith(b"data: "):
            continue
        if entry.first is None:
            entry.first = time.monotonic() - entry.began
        data = line.removeprefix(b"data: ").strip()
        if data == b"[DONE]":
            done = True
            continue
        assert not done, "an event after [DONE]"
        chunk = json.loads(data)
        if "error" in chunk:
            entry.outcome, entry.error = "failed", chunk["error"]["metadata"]["error_type"]
        elif chunk.get("usage"):
            entry.cost = chunk["usage"]["cost_nanos"]
        entry.id = entry.id or chunk.get("id", "")
    assert not (done and entry.outcome == "failed"), f"[DONE] after an error: {entry}"
    if done:
        entry.outcome = "ok"


def _refused(entry: Entry, data: dict[str, Any]) -> None:
    entry.outcome = "failed"
    entry.error = data["error"]["metadata"]["error_type"]
    entry.id = data["error"]["metadata"].get("generation_id", "")


class Load:
    """Callers on threads, each with a connection that it keeps; as a context manager it runs inside."""

    def __init__(
        self,
        api_base: str,
        customers: Iterable[Customer],
        *,
        log: Log,
        seed: int,
        callers: int = 6,
        models: tuple[str, ...] = ("sandbox/instant", "sandbox/instant", "sandbox/stream-100"),
        pause: float = 0.02,
        timeout: float = 30,
        most: int | None = None,
    ) -> None:
        self._api_base = api_base
        self._customers = list(customers)
        self._log = log
        self._models = models
        self._pause = pause
        self._timeout = timeout
        self._left = itertools.count() if most is None else iter(range(most))
        self._over = threading.Event()
        self._faults: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, args=(random.Random(f"{seed}-{n}"),)) for n in range(callers)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def join(self) -> None:
        """Until every call under way has ended (and all of `most` were made)."""
        for thread in self._threads:
            thread.join()
        assert not self._faults, self._faults

    def _work(self, chance: random.Random) -> None:
        where = urlsplit(self._api_base)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=self._timeout)
        try:
            while not self._over.is_set() and next(self._left, None) is not None:
                entry = call(
                    self._api_base,
                    chance.choice(self._customers),
                    self._log,
                    model=chance.choice(self._models),
                    stream=chance.random() < 0.5,
                    max_tokens=chance.choice((1, 4, 16, 100)),
                    at=connection,
                )
                if entry.outcome != "ok":
                    time.sleep(0.05)
                time.sleep(chance.random() * 2 * self._pause)
        except BaseException as error:
            self._faults.append(error)
            raise
        finally:
            with contextlib.suppress(OSError):
                connection.close()
