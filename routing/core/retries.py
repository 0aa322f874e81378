"""Whether a failed attempt may be followed by another, and when. Pure: `now` comes in, monotonic seconds.

Retries are made here and nowhere else: at most two a call, and in all a fifth of the calls for a model. A
fallback to an endpoint that nothing speaks against draws nothing from that budget, unless it fails as well;
so one healthy endpoint recovers every call, and when all are down they hear 1.2 times as much as was asked.
"""

from __future__ import annotations

import random

from routing.core import failures
from routing.core.failures import Failure
from routing.core.sliding import Sliding

MOST_ATTEMPTS = 3
SHARE = 0.2
LEAST_RETRIES = 3
"""So many within the window are granted however few calls there are."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
_TRANSIENT = frozenset((failures.UNREACHABLE, failures.OVERLOADED, failures.SERVER_ERROR))


class Retries:
    """One per worker; memory is bounded by the number of models in the catalog."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()  # noqa: S311
        self._by_model: dict[str, Sliding] = {}

    def begun(self, model: str, now: float) -> None:
        """A call begins; `model` is that of its first target."""
        counted = self._by_model.get(model)
        if counted is None:
            counted = self._by_model[model] = Sliding(now)
        counted.add(now, all=1)

    def draw(self, model: str, now: float) -> bool:
        """Whether the budget grants one more retry; it is then spent."""
        calls, spent = self._by_model[model].counts(now)
        if spent + 1 > max(SHARE * calls, LEAST_RETRIES):
            return False
        self.spend(model, now)
        return True

    def spend(self, model: str, now: float) -> None:
        """A retry that drew nothing has failed."""
        self._by_model[model].add(now, some=1)

    def pause(self, failure: Failure, attempts: int) -> float | None:
        """Seconds until the same endpoint may be asked again, after so many attempts; None: it may not.

        Full jitter: anything up to twice as much each time, and not before the time that was asked for.
        """
        asked = failure.retry_after
        if failure.kind == failures.RATE_LIMITED:
            if asked is None:
                return None
        elif failure.kind not in _TRANSIENT and failure.status != 408:
            return None
        if asked is not None and asked > LONGEST_PAUSE_SECONDS:
            return None
        most = min(FIRST_PAUSE_SECONDS * 2 ** (attempts - 1), LONGEST_PAUSE_SECONDS)
        return (asked or 0) + self.jittered(most)

    def jittered(self, most: float) -> float:
        return self._chance.uniform(0, most)
