"""How many of the last seconds' events were of one kind: two counts that slide, in two halves. Pure."""

from __future__ import annotations

WINDOW_SECONDS = 10.0
_HALF_SECONDS = WINDOW_SECONDS / 2


class Sliding:
    """Counts of the last five to ten seconds: `now` comes in, monotonic."""

    __slots__ = ("_all", "_all_before", "_began", "_some", "_some_before")

    def __init__(self, now: float) -> None:
        self.clear(now)

    def clear(self, now: float) -> None:
        self._began = now
        self._all = self._some = self._all_before = self._some_before = 0

    def add(self, now: float, *, all: int = 0, some: int = 0) -> None:
        self._slide(now)
        self._all += all
        self._some += some

    def counts(self, now: float) -> tuple[int, int]:
        """(all, some)."""
        self._slide(now)
        return self._all + self._all_before, self._some + self._some_before

    def _slide(self, now: float) -> None:
        passed = now - self._began
        if passed < _HALF_SECONDS:
            return
        if passed < WINDOW_SECONDS:
            self._all_before, self._some_before = self._all, self._some
        else:
            self._all_before = self._some_before = 0
        self._began, self._all, self._some = now, 0, 0
