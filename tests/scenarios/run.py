"""Play scenarios and print how well the selector chose.

    python -m tests.scenarios.run [--seeds 1-5] [--kinds outage,price] [--preferences cost] [--lanes 8]

`--seeds` are those for tuning unless stated; `--held-out` takes those that nobody tunes by. `--show` prints
each world, and where its calls went second by second. `--virtual` plays without a product, in virtual time.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.scenarios import oracle, stage, virtual, worlds
from tests.scenarios.oracle import Figures, Verdict
from tests.scenarios.worlds import HELD_OUT, KINDS, PREFERENCES, SEEDS, World

_HEAD = (
    "| scenario | preference | calls | right | settled | served right | success | attempts | regret "
    "| spread off | s to leave | s to return | never |"
)


def play(stand: stage.Stage, drawn: Sequence[World], *, at_a_time: int) -> Iterator[Verdict]:
    """As they end; `at_a_time` worlds run side by side."""
    for at in range(0, len(drawn), at_a_time):
        yield from stand.play(drawn[at : at + at_a_time], seed=drawn[at].seed)


def table(verdicts: Sequence[Verdict]) -> str:
    lines = [_HEAD, "|---" * (_HEAD.count("|") - 1) + "|"]
    for kind, preference in itertools.product(KINDS, PREFERENCES):
        _add(lines, kind, preference, verdicts)
    for preference in PREFERENCES:
        _add(lines, "", preference, verdicts)
    _add(lines, "", "", verdicts)
    return "\n".join(lines)


def _add(lines: list[str], kind: str, preference: str, verdicts: Sequence[Verdict]) -> None:
    mine = [
        verdict
        for verdict in verdicts
        if kind in ("", verdict.world.kind) and preference in ("", verdict.world.preference)
    ]
    if mine:
        lines.append(_row(kind or "**all**", preference or "**all**", oracle.figures(mine)))


def _row(kind: str, preference: str, found: Figures) -> str:
    spread = f"{found.spread:.0%}" if found.spread else ""
    return (
        f"| {kind} | {preference} | {found.calls} | {found.right:.1%} | {found.settled:.1%} "
        f"| {found.served:.1%} | {found.success:.2%} | {found.amplification:.3f} | {found.regret:+.1%} "
        f"| {spread} | {_times(found.struck)} | {_times(found.healed)} | {found.never or ''} |"
    )


def _times(seconds: Sequence[float]) -> str:
    """Median and most."""
    return f"{statistics.median(seconds):.1f} ({max(seconds):.1f})" if seconds else ""


def story(verdict: Verdict) -> str:
    """What was chosen first, second by second: small letters were right; `!` follows a call that failed."""
    world = verdict.world
    seconds: dict[int, str] = {}
    for call in verdict.calls:
        letter = call.first or "-"
        shown = letter if call.right else letter.upper()
        seconds[int(call.at)] = seconds.get(int(call.at), "") + shown + ("" if call.whole else "!")
    said = [f"{world.name}{' auto' if world.auto else ''}, converged {_rounded(verdict.converged)}"]
    said += [f"  {place.letter} cost {place.cost:.0f} seconds {place.seconds:.3f}" for place in world.places]
    said += [f"  {event.place.letter} {event}".replace(repr(event.place), "") for event in world.events]
    return "\n".join([*said, *(f"  {second:3d} {shown}" for second, shown in sorted(seconds.items()))])


def _rounded(converged: dict[float, float | None]) -> dict[float, float | None]:
    return {round(at, 1): None if took is None else round(took, 2) for at, took in converged.items()}


def _numbers(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=_numbers, default=list(SEEDS))
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=KINDS)
    parser.add_argument("--preferences", type=lambda text: text.split(","), default=PREFERENCES)
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--virtual", action="store_true")
    asked = parser.parse_args()
    seeds = list(HELD_OUT) if asked.held_out else asked.seeds
    wanted = itertools.product(seeds, asked.kinds, asked.preferences)
    drawn = [worlds.draw(kind, preference, seed) for seed, kind, preference in wanted]
    played: Iterable[Verdict]
    began, verdicts = time.monotonic(), []
    with contextlib.ExitStack() as stack:
        if asked.virtual:
            played = map(virtual.play, drawn)
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            stand = stack.enter_context(stage.running(Path(folder)))
            played = play(stand, drawn, at_a_time=asked.lanes)
        for verdict in played:
            verdicts.append(verdict)
            if asked.show:
                print(story(verdict), flush=True)
    print(f"seeds {json.dumps(seeds)}, {len(drawn)} worlds, {time.monotonic() - began:.0f} s\n")
    print(table(verdicts))


if __name__ == "__main__":
    main()
