"""A stored decision as a picture: who could have served, what was predicted, what became of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from billing.money import show_usd
from routing import failures

AT_ONCE = 5
"""Candidates shown before a person asks for more."""
_LEAST = 1.0
"""A bar that stands for something can be seen."""
_BROKE_OFF = "broke off in the middle of its answer"
_WORDS = {
    failures.REJECTED: "refused the request",
    failures.CREDENTIALS: "refused our credentials",
    failures.RATE_LIMITED: "was at capacity",
    failures.OVERLOADED: "was overloaded",
    failures.SERVER_ERROR: "failed",
    failures.UNREACHABLE: "could not be reached",
    failures.TIMEOUT: "did not answer in time",
    failures.MALFORMED: "answered with what is no answer",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    number: int
    endpoint: str
    words: str
    seconds: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    rank: int
    provider: str
    model: str
    cost: str
    seconds: str
    cost_bar: str
    """Out of 100, as SVG takes it."""
    seconds_bar: str
    cheapest: bool
    fastest: bool
    chosen: bool
    served: bool
    failure: str


@dataclass(frozen=True, slots=True)
class Picture:
    asked: str
    preference: str
    reason: str
    chosen: str
    served: str
    considered: int
    candidates: tuple[Candidate, ...]
    attempts: tuple[Attempt, ...]
    excluded: tuple[tuple[str, str], ...]
    excluded_count: int

    @property
    def first(self) -> tuple[Candidate, ...]:
        """What is seen at once: the best, and whoever was tried."""
        return tuple(each for each in self.candidates if each.rank <= AT_ONCE or each.served or each.failure)

    @property
    def others(self) -> tuple[Candidate, ...]:
        return tuple(each for each in self.candidates if each not in self.first)

    @property
    def fell_back(self) -> bool:
        return bool(self.served) and self.served != self.chosen


def of(decision: Mapping[str, Any], *, status: str) -> Picture | None:
    """The picture of a generation's `decision`; None when it holds none (a call cut off by a crash)."""
    if not decision.get("candidates"):
        return None
    tried = decision.get("attempts", ())
    failed = {attempt["endpoint"]: failure_words(attempt) for attempt in tried}
    delivered = status in ("completed", "aborted")
    served = decision.get("served", "")
    return Picture(
        asked=decision.get("asked", ""),
        preference=decision.get("preference", ""),
        reason=decision.get("reason", ""),
        chosen=decision.get("chosen", ""),
        served=served if delivered else "",
        considered=decision.get("considered", 0),
        candidates=_candidates(decision, failed, served=served if delivered else ""),
        attempts=_attempts(tried, served=served, delivered=delivered),
        excluded=tuple((entry["endpoint"], entry["reason"]) for entry in decision.get("excluded", ())),
        excluded_count=decision.get("excluded_count", 0),
    )


def why(decision: Mapping[str, Any], *, status: str) -> str:
    """One short sentence: the selector's reason, or who failed before."""
    tried = decision.get("attempts", ())
    served = decision.get("served", "")
    if not tried:
        return str(decision.get("reason", ""))
    if tried[-1].get("begun"):
        return f"{served.partition(':')[0]} {_BROKE_OFF}"
    provider = tried[0]["endpoint"].partition(":")[0]
    more = f", and {len(tried) - 1} more" if len(tried) > 1 else ""
    if served == tried[-1]["endpoint"]:
        return f"{provider} {failure_words(tried[0])}{more}; nobody else could serve"
    return f"fallback: {provider} {failure_words(tried[0])}{more}"


def failure_words(attempt: Mapping[str, Any]) -> str:
    """`was at capacity (429)`."""
    if attempt.get("begun"):
        return _BROKE_OFF
    words = _WORDS.get(attempt.get("failure", ""), "failed")
    status = attempt.get("status")
    return f"{words} ({status})" if status else words


def _candidates(
    decision: Mapping[str, Any], failed: Mapping[str, str], *, served: str
) -> tuple[Candidate, ...]:
    shown = decision["candidates"]
    costs = [each["cost_nanos"] for each in shown]
    times = [each["seconds"] for each in shown]
    several = len(shown) > 1
    found = []
    for each in shown:
        provider, _, model = each["endpoint"].partition(":")
        found.append(
            Candidate(
                rank=each["rank"],
                provider=provider,
                model=model,
                cost=show_usd(each["cost_nanos"]),
                seconds=f"{each['seconds']:.2f} s",
                cost_bar=_bar(each["cost_nanos"], costs),
                seconds_bar=_bar(each["seconds"], times),
                cheapest=several and each["cost_nanos"] == min(costs),
                fastest=several and each["seconds"] == min(times),
                chosen=each["endpoint"] == decision.get("chosen"),
                served=each["endpoint"] == served,
                failure=failed.get(each["endpoint"], ""),
            )
        )
    return tuple(found)


def _attempts(tried: Iterable[Mapping[str, Any]], *, served: str, delivered: bool) -> tuple[Attempt, ...]:
    """Every try in order: the failures before the first byte, then whoever answered, if only in part."""
    found = [
        Attempt(
            number, attempt["endpoint"], failure_words(attempt), f"{attempt.get('seconds', 0):.2f} s", True
        )
        for number, attempt in enumerate(tried, 1)
    ]
    if delivered:
        found.append(Attempt(len(found) + 1, served, "served the answer", "", False))
    return tuple(found)


def _bar(value: float, among: Iterable[float]) -> str:
    most = max(among)
    share = 100 * value / most if most else 0.0
    return f"{max(share, _LEAST) if value else 0.0:.2f}"
