"""Faults on demand: the next calls to a path fail, or their answer is lost after the work was done."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from billing.sandbox.refusals import Invalid, Thing

KINDS = ("lose", "hang", "slow", "error", "limit")


@dataclass(slots=True)
class Mishap:
    """What befalls the next `times` calls whose "POST /v1/…" matches `call`.

    lose: the work is done, the connection then cut without an answer. hang: the same, after `seconds`.
    slow: the work begins only after `seconds`; until then its idempotency key is in use. error: 500 instead
    of work, kept under the idempotency key. limit: 429 instead of work, not kept.
    """

    call: str
    kind: str
    times: int = 1
    seconds: int = 30


class Mishaps:
    def __init__(self) -> None:
        self._waiting: list[Mishap] = []

    def arrange(self, told: Thing) -> None:
        kind = told.get("kind", "")
        if kind not in KINDS:
            raise Invalid(f"kind must be one of {', '.join(KINDS)}", param="kind")
        call = told.get("call", "* *")
        self._waiting.append(Mishap(call, kind, told.get("times", 1), told.get("seconds", 30)))

    def take(self, method: str, path: str) -> Mishap | None:
        """The mishap of this call, which counts as used."""
        for mishap in self._waiting:
            if fnmatch.fnmatchcase(f"{method} {path}", mishap.call):
                mishap.times -= 1
                if mishap.times <= 0:
                    self._waiting.remove(mishap)
                return mishap
        return None

    def waiting(self) -> int:
        """How many have befallen no call yet."""
        return sum(mishap.times for mishap in self._waiting)

    def clear(self) -> None:
        self._waiting.clear()
