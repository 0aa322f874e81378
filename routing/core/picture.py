"""A stored decision as a picture: who could have served, what was predicted, what became of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from billing.core.money import show_usd
from routing.core import failures, plot
from routing.core.plot import Plot, Point

AT_ONCE = 5
"""Candidates shown before a person asks for more."""
_LEAST = 1.0
"""A bar that stands for something can be seen."""
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_FIELD = re.compile(r"^provider\.\w+: ")
_DELIVERED = ("completed", "aborted")
_BROKE_OFF = "broke off in the middle of its answer"
_STATES = {
    "resting": "it failed just now",
    "unhealthy": "probes say that it is down",
    "outage": "it fails for everybody",
}
_PREFERENCES = {"default": "nothing in particular"}
_WORDS = {
    failures.REJECTED: "refused the request",
    failures.CREDENTIALS: "refused our credentials",
    failures.RATE_LIMITED: "was at capacity",
    failures.OVERLOADED: "was overloaded",
    failures.SERVER_ERROR: "failed",
    failures.UNREACHABLE: "could not be reached",
    failures.FULL: "had all our connections in use",
    failures.TIMEOUT: "did not answer in time",
    failures.MALFORMED: "answered with what is no answer",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    number: int
    endpoint: str
    words: str
    seconds: str
    key: str
    """Which of our keys it went with, where there is a choice."""
    wait: str
    """How long it was put off for after the one before; empty for not at all."""
    failed: bool
    bar_from: str
    bar_width: str
    """Out of 100, as SVG takes it; no width where nobody knows how long it took."""


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
    turns: tuple[int, ...]
    """The attempts that went there, counted from 1."""
    notes: tuple[str, ...]
    """What else moved it: its share of a weighted draw, an earlier call, a rest after failures."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some were left out."""

    words: str
    count: int
    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    asked: str
    preference: str
    sentence: str
    reason: str
    """The selector's own, of its first choice."""
    chosen: str
    served: str
    considered: int
    candidates: tuple[Candidate, ...]
    attempts: tuple[Attempt, ...]
    plot: Plot | None
    excluded: tuple[Reason, ...]
    excluded_count: int
    unknown: tuple[str, ...]
    """Providers that the request names and nobody has."""

    @property
    def first(self) -> tuple[Candidate, ...]:
        """What is seen at once: the best, and whoever was tried."""
        return tuple(each for each in self.candidates if each.rank <= AT_ONCE or each.served or each.failure)

    @property
    def others(self) -> tuple[Candidate, ...]:
        return tuple(each for each in self.candidates if each not in self.first)

    @property
    def unlisted(self) -> int:
        """How many of those left out are only counted."""
        return self.excluded_count - sum(reason.count for reason in self.excluded)

    @property
    def failed(self) -> bool:
        return any(attempt.failed for attempt in self.attempts)


def of(decision: Mapping[str, Any], *, status: str, seconds: float = 0.0) -> Picture | None:
    """The picture of a generation's `decision`; None when it holds none (a call cut off by a crash).

    `seconds` is what the whole call took, to draw the attempts to scale.
    """
    if not decision.get("candidates"):
        return None
    tried = decision.get("attempts", ())
    served = decision.get("served", "") if status in _DELIVERED else ""
    candidates = _candidates(decision, tried, served=served)
    return Picture(
        asked=decision.get("asked", ""),
        preference=_PREFERENCES.get(decision.get("preference", ""), decision.get("preference", "")),
        sentence=_sentence(decision, tried, served=served),
        reason=decision.get("reason", ""),
        chosen=decision.get("chosen", ""),
        served=served,
        considered=decision.get("considered", 0),
        candidates=candidates,
        attempts=_attempts(decision, tried, served=served, seconds=seconds),
        plot=plot.of(_points(decision, candidates)),
        excluded=_reasons(decision.get("excluded", ())),
        excluded_count=decision.get("excluded_count", 0),
        unknown=tuple(decision.get("unknown_providers", ())),
    )


def why(decision: Mapping[str, Any], *, status: str) -> str:
    """One short sentence: the selector's reason, or who failed before."""
    tried = decision.get("attempts", ())
    served = decision.get("served", "")
    if not tried:
        return str(decision.get("served_reason") or decision.get("reason", ""))
    if tried[-1].get("begun"):
        return f"{served.partition(':')[0]} {_BROKE_OFF}"
    provider = tried[0]["endpoint"].partition(":")[0]
    more = f", and {len(tried) - 1} more" if len(tried) > 1 else ""
    if served == tried[-1]["endpoint"]:
        ending = (
            f"then served {_again(decision, tried)}" if status in _DELIVERED else "nobody else could serve"
        )
        return f"{provider} {failure_words(tried[0])}{more}; {ending}"
    return f"fallback: {provider} {failure_words(tried[0])}{more}"


def failure_words(attempt: Mapping[str, Any]) -> str:
    """`was at capacity (429)`."""
    if attempt.get("begun"):
        return _BROKE_OFF
    words = _WORDS.get(attempt.get("failure", ""), "failed")
    status = attempt.get("status")
    return f"{words} ({status})" if status else words


def _again(decision: Mapping[str, Any], tried: Sequence[Mapping[str, Any]]) -> str:
    """How an endpoint that had failed was asked once more."""
    before = {attempt.get("key") for attempt in tried if attempt["endpoint"] == decision.get("served")}
    key = decision.get("key")
    return "with another key of ours" if key is not None and key not in before else "when asked again"


def _sentence(decision: Mapping[str, Any], tried: Sequence[Mapping[str, Any]], *, served: str) -> str:
    """Why this one, or what went wrong before: a person needs no more at first."""
    if not tried:
        other = decision.get("served_reason")
        if other:
            return f"{other}."
        reason = str(decision.get("reason", ""))
        return f"{reason[:1].upper()}{reason[1:]}."
    if tried[-1].get("begun"):
        return f"{tried[-1]['endpoint']} {_BROKE_OFF}, when no other could take over unseen."
    begun = tried[0]["endpoint"]
    first = f"{'The first choice' if begun == decision.get('chosen') else begun} {failure_words(tried[0])}"
    more = len(tried) - 1
    failed = f", {more} more attempt{'s' * (more > 1)} failed" if more else ""
    if served == begun:
        return f"{first}{failed}, and {'it ' * (more > 0)}served {_again(decision, tried)}."
    if served:
        return f"{first}{failed}, and the next in line served."
    return f"{first}{failed}, and nobody else could serve."


def _candidates(
    decision: Mapping[str, Any], tried: Iterable[Mapping[str, Any]], *, served: str
) -> tuple[Candidate, ...]:
    shown = decision["candidates"]
    costs = [each["cost_nanos"] for each in shown]
    times = [each["seconds"] for each in shown]
    failed: dict[str, dict[str, None]] = {}
    for attempt in tried:
        failed.setdefault(attempt["endpoint"], {})[failure_words(attempt)] = None
    order = [attempt["endpoint"] for attempt in tried] + [served] * bool(served)
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
                cheapest=each["cost_nanos"] == min(costs) < max(costs),
                fastest=each["seconds"] == min(times) < max(times),
                chosen=each["endpoint"] == decision.get("chosen"),
                served=each["endpoint"] == served,
                failure=", then ".join(failed.get(each["endpoint"], ())),
                turns=tuple(at for at, slug in enumerate(order, 1) if slug == each["endpoint"]),
                notes=_notes(each),
            )
        )
    return tuple(found)


def _notes(candidate: Mapping[str, Any]) -> tuple[str, ...]:
    """What a selector wrote beside cost and time; older generations have none of it."""
    notes = []
    weight = candidate.get("weight")
    if weight is not None:
        share = 100 * weight
        notes.append(f"{share:.0f} % of the draw" if share >= 1 else "under 1 % of the draw")
    if candidate.get("sticky"):
        notes.append("its prompt cache is warm")
    if candidate.get("explored"):
        notes.append("tried to keep its figures fresh")
    state = candidate.get("state")
    if state:
        notes.append(f"put last: {_STATES.get(state, state)}")
    if candidate.get("missed"):
        notes.append(_FIELD.sub("", str(candidate["missed"])))
    return tuple(notes)


def _points(decision: Mapping[str, Any], candidates: Iterable[Candidate]) -> list[Point]:
    found = []
    for figures, each in zip(decision["candidates"], candidates, strict=True):
        kind = plot.OTHER
        if each.served:
            kind = plot.SERVED
        elif each.failure:
            kind = plot.FAILED
        elif figures.get("state"):
            kind = plot.RESTING
        said = ("served" if each.served else "", each.failure, *each.notes)
        words = f"{each.rank}. {each.model} at {each.provider}: {each.cost}, {each.seconds}"
        found.append(
            Point(
                name=f"{each.model.rpartition('/')[2]} at {each.provider}",
                cost_nanos=figures["cost_nanos"],
                seconds=figures["seconds"],
                kind=kind,
                turns=each.turns,
                words="; ".join(filter(None, (words, *said))),
            )
        )
    return found


def _attempts(
    decision: Mapping[str, Any], tried: Sequence[Mapping[str, Any]], *, served: str, seconds: float
) -> tuple[Attempt, ...]:
    """Every try in order: the failures before the first byte, then whoever answered, if only in part."""
    tries = [(attempt, str(attempt["endpoint"]), failure_words(attempt)) for attempt in tried]
    lasted = [float(attempt.get("seconds", 0)) for attempt in tried]
    if served:
        tries.append((decision, served, "served the answer"))
    waits = [float(said.get("wait", 0)) for said, _, _ in tries]
    if served:
        lasted.append(max(0.0, seconds - sum(lasted) - sum(waits)))
    whole = [sum(lasted) + sum(waits)]
    gaps, widths = ([float(_bar(each, whole)) for each in those] for those in (waits, lasted))
    scale = 100 / (sum(gaps) + sum(widths) or 1.0)
    found, at = [], 0.0
    for number, (said, name, words) in enumerate(tries):
        at += gaps[number] * scale
        width = widths[number] * scale
        found.append(
            Attempt(
                number=number + 1,
                endpoint=name,
                words=words,
                seconds=_duration(lasted[number]) if lasted[number] else "",
                key=str(said.get("key", "")),
                wait=_duration(waits[number]) if waits[number] else "",
                failed=number < len(tried),
                bar_from=f"{at:.2f}",
                bar_width=f"{width:.2f}",
            )
        )
        at += width
    return tuple(found)


def _reasons(excluded: Iterable[Mapping[str, Any]]) -> tuple[Reason, ...]:
    """By reason, the commonest first; reasons that differ only in a figure are one, with its range."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for entry in excluded:
        groups.setdefault(_NUMBER.sub("#", _of_any(entry)), []).append(entry)
    found = [
        Reason(
            _with_ranges(shape, [_of_any(entry) for entry in entries]),
            len(entries),
            tuple(entry["endpoint"] for entry in entries),
        )
        for shape, entries in groups.items()
    ]
    return tuple(sorted(found, key=lambda reason: -reason.count))


def _of_any(entry: Mapping[str, Any]) -> str:
    """The reason without the endpoint's own names, which stand beside it anyway."""
    provider, _, model = entry["endpoint"].partition(":")
    own = "|".join(re.escape(name) for name in (entry["endpoint"], model, provider) if name)
    return re.sub(rf"(?<![\w/.-])(?:{own})(?![\w/.-])", "it", str(entry["reason"]), count=1)


def _with_ranges(shape: str, reasons: Sequence[str]) -> str:
    """`a context of 4096 to 8192 is too short`."""
    parts = shape.split("#")
    said = [parts[0]]
    figures = zip(*(_NUMBER.findall(reason) for reason in reasons), strict=True)
    for values, part in zip(figures, parts[1:], strict=True):
        least, most = min(values, key=_worth), max(values, key=_worth)
        said += [least if _worth(least) == _worth(most) else f"{least} to {most}", part]
    return "".join(said)


def _worth(figure: str) -> float:
    return float(figure.replace(",", ""))


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{max(1, round(seconds * 1000))} ms"


def _bar(value: float, among: Iterable[float]) -> str:
    most = max(among)
    share = 100 * value / most if most else 0.0
    return f"{max(share, _LEAST) if value else 0.0:.2f}"
