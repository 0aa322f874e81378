"""What the ledger must do, said once more and plainly: lists, sorting, sums. It imports nothing of ours.

Owners are small numbers, postings are named by (kind, source id). Time is a number of days.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

OURS = -1
Entries = Mapping[tuple[str, int], int]
"""(account, owner or OURS) → nanos."""
Name = tuple[str, str]

PROMOTIONS = ("welcome", "grant")
UNDOES = ("refund_failed", "dispute_won")


class OtherContent(Exception):
    pass


class AlreadyReversed(Exception):
    pass


@dataclass(frozen=True)
class Posting:
    kind: str
    source_id: str
    owner: int
    entries: Entries
    ends: int | None = None
    about: Name | None = None

    @property
    def name(self) -> Name:
        return self.kind, self.source_id

    @property
    def nanos(self) -> int:
        return self.entries.get(("wallet", self.owner), 0)


@dataclass
class Lot:
    posting: Posting
    nanos: int
    left: int
    born: int

    @property
    def rank(self) -> int:
        return 0 if self.posting.kind in PROMOTIONS else 1 if self.posting.kind == "rebate" else 2

    @property
    def sort(self) -> str:
        return ("promotion", "rebate", "paid")[self.rank]

    @property
    def burns(self) -> tuple[int, float, int]:
        return self.rank, float("inf") if self.posting.ends is None else self.posting.ends, self.born


@dataclass
class Call:
    """A delivered generation: what it charges, what it cost, what of that is lost; posted or not."""

    owner: int
    charge: int
    base: int
    loss: int
    name: str = ""
    posted: bool = False


@dataclass
class Books:
    owners: int
    day: int = 0
    postings: dict[Name, Posting] = field(default_factory=dict)
    lots: dict[Name, Lot] = field(default_factory=dict)
    sums: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    chains: dict[int, list[Name]] = field(default_factory=lambda: defaultdict(list))
    calls: list[Call] = field(default_factory=list)

    def balance(self, owner: int) -> int:
        return self.sums["wallet", owner]

    def lots_of(self, owner: int) -> list[Lot]:
        return sorted(
            (lot for lot in self.lots.values() if lot.posting.owner == owner), key=lambda lot: lot.burns
        )

    def post(self, posting: Posting) -> bool:
        """Whether it is new."""
        known = self.postings.get(posting.name)
        if known is not None:
            if known != posting:
                raise OtherContent
            return False
        before = self.balance(posting.owner)
        self.postings[posting.name] = posting
        self.chains[posting.owner].append(posting.name)
        for account, nanos in posting.entries.items():
            self.sums[account] += nanos
        if posting.nanos > 0:
            self._give(posting, before)
        else:
            self._burn(posting)
        return True

    def _give(self, posting: Posting, before: int) -> None:
        debt = max(-before, 0)
        usable = max(posting.nanos - debt, 0)
        nanos = posting.nanos
        if posting.about is not None:
            origin = self.lots.get(self.postings[posting.about].about or ("", ""))
            back = 0 if origin is None else min(usable, origin.nanos - origin.left)
            if origin is not None:
                origin.left += back
            nanos = usable = usable - back
        if nanos:
            self.lots[posting.name] = Lot(posting, nanos, usable, born=len(self.postings))

    def _burn(self, posting: Posting) -> None:
        due = -posting.nanos
        for lot in sorted(self.lots_of(posting.owner), key=lambda lot: lot.posting.name != posting.about):
            burnt = min(lot.left, due)
            lot.left -= burnt
            due -= burnt

    def reverse(self, kind: str, source_id: str, name: Name) -> None:
        if any(
            posting.about == name and posting.kind in UNDOES and posting.name != (kind, source_id)
            for posting in self.postings.values()
        ):
            raise AlreadyReversed
        was = self.postings[name]
        entries = {account: -nanos for account, nanos in was.entries.items()}
        self.post(Posting(kind, source_id, was.owner, entries, about=name))

    def post_calls(self) -> None:
        for owner in range(self.owners):
            calls = [call for call in self.calls if call.owner == owner and not call.posted]
            charge = sum(call.charge for call in calls)
            base = sum(call.base for call in calls)
            loss = sum(call.loss for call in calls)
            entries = {
                ("wallet", owner): -charge,
                ("provider_cost", OURS): base + loss,
                ("markup_revenue", OURS): charge - base,
                ("loss", OURS): -loss,
            }
            for call in calls:
                call.posted = True
            moved = {account: nanos for account, nanos in entries.items() if nanos}
            if moved:
                self.post(Posting("usage", min(call.name for call in calls), owner, moved))

    def expire(self) -> None:
        """What waits to be posted keeps as much of each lot, and lots go in the order of their ends."""
        for lot in sorted(self.lots.values(), key=lambda lot: (lot.posting.ends or 0, lot.born)):
            if lot.posting.ends is None or lot.posting.ends > self.day:
                continue
            owner, waiting = lot.posting.owner, self.waiting(lot.posting.owner)
            gone = lot.left - waiting
            if gone > 0:
                name = lot.posting.source_id + ("" if gone == lot.left else f" day {self.day} part")
                entries = {("wallet", owner): -gone, ("promotion", OURS): gone}
                self.post(Posting("expiry", name, owner, entries, about=lot.posting.name))

    def waiting(self, owner: int) -> int:
        return sum(call.charge for call in self.calls if call.owner == owner and not call.posted)


def chained(links: list[list[object]]) -> bytes:
    """The end of a chain: of each posting what it says, as a list that JSON can spell."""
    end = b""
    for link in links:
        end = hashlib.sha256(end + json.dumps(link, separators=(",", ":")).encode()).digest()
    return end
