"""Which of our keys at a provider a call is sent with. Pure: `now` comes in, monotonic seconds.

Among the keys whose limits allow it, the one that was used least in the last minute. A key that is limited
rests for as long as it was told, one that is wrong for long; only when none is left the endpoint has failed.
"""

from __future__ import annotations

from dataclasses import dataclass

from routing.core import failures
from routing.core.failures import Failure
from routing.core.listing import ManagedKey

REFUSED_SECONDS = 60.0
"""How long a key rests that is wrong or has no credit: a person has to see to it."""
FORBIDDEN_TO_REST = 3
"""A 403 may be about one prompt alone: so many in a row are about the key."""
_MINUTE = 60.0


@dataclass(slots=True)
class _Used:
    began: float
    count: int = 0
    before: int = 0
    running: int = 0
    rests_until: float = 0.0
    why: str = ""
    forbidden: int = 0

    def lately(self, now: float) -> float:
        """Requests of the last minute, as if those of the minute before had come evenly."""
        passed = now - self.began
        if passed >= _MINUTE:
            self.before = self.count if passed < 2 * _MINUTE else 0
            self.began, self.count, passed = now, 0, 0.0
        return self.count + self.before * (1 - passed / _MINUTE)


class Keychain:
    """One provider's keys in one worker. `share`: which part of each key's limits is this worker's."""

    def __init__(self, *, share: float = 1.0) -> None:
        self._share = share
        self._keys: tuple[ManagedKey, ...] = ()
        self._used: dict[str, _Used] = {}
        """By the secret: what is under way stays counted when an operator changes a limit or a name."""

    def holds(self, keys: tuple[ManagedKey, ...], now: float) -> None:
        """These are the keys from now on; what is known of one that stays, stays."""
        self._keys = keys
        self._used = {key.text: self._used.get(key.text) or _Used(now) for key in keys}

    def take(self, now: float) -> ManagedKey:
        """The key for one request, counted as under way until `done`. Raises Failure when none is left."""
        free = [key for key in self._keys if self._allows(key, now)]
        if not free:
            raise self._none_left(now)
        key = min(free, key=lambda key: (self._used[key.text].lately(now), self._used[key.text].running))
        used = self._used[key.text]
        used.count += 1
        used.running += 1
        return key

    def done(self, key: ManagedKey, *, sent: bool = True) -> None:
        """A request that was never sent does not count in its minute either."""
        used = self._used.get(key.text)
        if used is not None:
            used.running = max(used.running - 1, 0)
            if not sent:
                used.count = max(used.count - 1, 0)

    def answered(self, key: ManagedKey) -> None:
        used = self._used.get(key.text)
        if used is not None:
            used.forbidden = 0

    def failed(self, key: ManagedKey, failure: Failure, now: float) -> bool:
        """Whether the key rests for this failure; then another key may be asked, if `left` says so."""
        used = self._used.get(key.text)
        if used is None:
            return False
        if failure.kind == failures.RATE_LIMITED:
            seconds = failures.rest_of_limit(failure.retry_after)
        elif failure.kind == failures.CREDENTIALS:
            used.forbidden += 1
            if failure.status == 403 and used.forbidden < FORBIDDEN_TO_REST:
                return False
            seconds = REFUSED_SECONDS
        else:
            return False
        used.rests_until, used.why = max(used.rests_until, now + seconds), failure.kind
        return True

    def left(self, now: float) -> bool:
        return any(self._allows(key, now) for key in self._keys)

    def _allows(self, key: ManagedKey, now: float) -> bool:
        used = self._used[key.text]
        if now < used.rests_until:
            return False
        if key.concurrent is not None and used.running >= max(key.concurrent * self._share, 1):
            return False
        most = key.requests_per_minute
        return most is None or used.lately(now) + 1 <= max(most * self._share, 1)

    def _none_left(self, now: float) -> Failure:
        """Limits pass, and are told as such; when every key was refused, that is what it is."""
        resting = [used for used in self._used.values() if now < used.rests_until]
        if len(resting) == len(self._used) and all(used.why == failures.CREDENTIALS for used in resting):
            return Failure(failures.CREDENTIALS, "no key of ours is accepted")
        soonest = min((used.rests_until - now for used in resting), default=1.0)
        return Failure(
            failures.RATE_LIMITED, "every key of ours is at its limit", retry_after=int(soonest) + 1
        )
