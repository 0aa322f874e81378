"""The ledger gone through again from its postings: every chain, and what each lot of credit comes to.

Rows come through a cursor of the server's, so memory does not grow with the ledger; of lots, those of one
organization are held at a time. What burns first is written here a second time, on purpose.
"""

from __future__ import annotations

import json
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple

from django.db import connection

from billing.core import chain, chart
from billing.core.money import Nanos

_CHUNK = 2_000
_NEVER = datetime.max.replace(tzinfo=UTC)

_CHAINS = """
WITH looked AS (
    SELECT organization_id, min(chain_index) AS first FROM billing_posting
    WHERE created_at >= %s GROUP BY organization_id
)
SELECT posting.organization_id, looked.first, posting.id, posting.chain_index, posting.chain_hash,
       posting.kind, posting.source, posting.source_id, posting.note, posting.created_at,
       posting.expires_at, posting.from_posting_id,
       (SELECT json_agg(json_build_array(account.kind, account.organization_id, entry.nanos))
        FROM billing_entry AS entry JOIN billing_account AS account ON account.id = entry.account_id
        WHERE entry.posting_id = posting.id)::text AS entries,
       wallet.chain_length AS length, wallet.chain_hash AS head
FROM looked
JOIN billing_posting AS posting
  ON posting.organization_id = looked.organization_id AND posting.chain_index >= looked.first - 1
LEFT JOIN billing_wallet AS wallet ON wallet.organization_id = posting.organization_id
ORDER BY posting.organization_id, posting.chain_index
"""

_EMPTY_CHAINS = """
SELECT organization_id, chain_length FROM billing_wallet AS wallet
WHERE chain_length > 0 AND NOT EXISTS (SELECT FROM billing_posting AS posting
                                       WHERE posting.organization_id = wallet.organization_id)
"""

_CREDIT = """
SELECT posting.organization_id, posting.id, posting.kind, posting.expires_at, posting.from_posting_id,
       (SELECT reversed.from_posting_id FROM billing_posting AS reversed
        WHERE reversed.id = posting.from_posting_id) AS origin,
       (SELECT coalesce(sum(entry.nanos), 0)::bigint
        FROM billing_entry AS entry JOIN billing_account AS account ON account.id = entry.account_id
        WHERE entry.posting_id = posting.id AND account.kind = 'wallet') AS moved,
       lot.kind AS lot_kind, lot.rank, lot.nanos, lot.remaining_nanos, lot.expires_at AS lot_expires_at
FROM billing_posting AS posting LEFT JOIN billing_creditlot AS lot ON lot.posting_id = posting.id
ORDER BY posting.organization_id, posting.chain_index
"""


class _Said(NamedTuple):
    organization_id: int
    first: int
    id: int
    place: int
    hash: bytes
    kind: str
    source: str
    source_id: str
    note: str
    created_at: datetime
    expires_at: datetime | None
    from_posting: int | None
    entries: str | None
    length: int | None
    head: bytes | None


class _Moved(NamedTuple):
    organization_id: int
    id: int
    kind: str
    expires_at: datetime | None
    from_posting: int | None
    origin: int | None
    nanos: Nanos
    lot_kind: str | None
    lot_rank: int | None
    lot_nanos: Nanos | None
    lot_remaining: Nanos | None
    lot_expires_at: datetime | None


def broken_chains(since: datetime, *, whole: bool) -> Iterator[str]:
    """A sentence for every posting, from then on, that does not follow from the one before it."""
    said = map(_Said._make, _rows(_CHAINS, [since]))
    for organization_id, rows in groupby(said, lambda row: row.organization_id):
        yield from _broken_chain(organization_id, rows)
    if whole:
        with connection.cursor() as cursor:
            cursor.execute(_EMPTY_CHAINS)
            for organization_id, length in cursor.fetchall():
                yield f"all {length} postings of organization {organization_id} are gone"


def _broken_chain(organization_id: int, rows: Iterator[_Said]) -> Iterator[str]:
    index, end, last = 0, chain.BEGINNING, None
    for last in rows:
        if index == 0 and last.place < last.first:  # what stands before the look begins
            index, end = last.place, bytes(last.hash)
            continue
        if last.place != index + 1:
            gap = f"{index + 1} to {last.place - 1}"
            yield f"organization {organization_id} lacks postings {gap} of its chain"
        elif _link(end, last) != bytes(last.hash):
            yield f"posting {last.id} of organization {organization_id} is not what its chain holds"
        index, end = last.place, bytes(last.hash)
    if last is not None and (last.length, last.head and bytes(last.head)) != (index, end):
        yield (
            f"the chain of organization {organization_id} ends with posting {index}, its wallet says"
            f" {last.length}{' with another hash' if last.length == index else ''}"
        )


def _link(before: bytes, row: _Said) -> bytes:
    entries = {(account, owner): nanos for account, owner, nanos in json.loads(row.entries or "[]")}
    return chain.link(
        before,
        index=row.place,
        kind=row.kind,
        source=row.source,
        source_id=row.source_id,
        note=row.note,
        created_at=row.created_at,
        expires_at=row.expires_at,
        from_posting=row.from_posting,
        entries=entries,
    )


@dataclass(slots=True)
class _Lot:
    kind: str
    nanos: Nanos
    left: Nanos
    expires_at: datetime | None
    place: tuple[int, datetime, int]


@dataclass(slots=True)
class _Credit:
    """One organization's, as its postings make it; `order` are the places of lots with something left."""

    balance: Nanos = 0
    lots: dict[int, _Lot] = field(default_factory=dict)
    order: list[tuple[tuple[int, datetime, int], int]] = field(default_factory=list)

    def move(self, row: _Moved) -> None:
        before, self.balance = self.balance, self.balance + row.nanos
        if row.nanos > 0:
            self._give(row, min(row.nanos, max(self.balance, 0)))
        elif row.nanos < 0:
            self._burn(min(-row.nanos, max(before, 0)), row.from_posting)

    def _give(self, row: _Moved, usable: Nanos) -> None:
        nanos = row.nanos
        if row.from_posting is not None:
            origin = self.lots.get(row.origin or 0)
            back = 0 if origin is None else min(usable, origin.nanos - origin.left)
            if origin is not None and back:
                if not origin.left:
                    insort(self.order, (origin.place, row.origin or 0))
                origin.left += back
            nanos = usable = usable - back
        if nanos:
            kind = chart.credit_kind(row.kind)
            place = (chart.RANKS[kind], row.expires_at or _NEVER, row.id)
            self.lots[row.id] = _Lot(kind, nanos, usable, row.expires_at, place)
            if usable:
                insort(self.order, (place, row.id))

    def _burn(self, nanos: Nanos, first: int | None) -> None:
        named = self.lots.get(first or 0)
        if named is not None and named.left:
            taken = min(nanos, named.left)
            named.left -= taken
            nanos -= taken
            if not named.left:
                self.order.remove((named.place, first or 0))
        while nanos:
            lot = self.lots[self.order[0][1]]
            taken = min(nanos, lot.left)
            lot.left -= taken
            nanos -= taken
            if not lot.left:
                del self.order[0]


def strange_lots() -> Iterator[str]:
    """A sentence for every lot that is not what the postings of its organization make of it."""
    moved = map(_Moved._make, _rows(_CREDIT, []))
    for _, rows in groupby(moved, lambda row: row.organization_id):
        credit, stored = _Credit(), {}
        for row in rows:
            credit.move(row)
            if row.lot_kind is not None:
                stored[row.id] = (row.lot_kind, row.lot_nanos, row.lot_remaining, row.lot_expires_at)
                if row.lot_rank != chart.RANKS[row.lot_kind]:
                    yield f"the lot of posting {row.id} burns with rank {row.lot_rank}"
        made = {name: (lot.kind, lot.nanos, lot.left, lot.expires_at) for name, lot in credit.lots.items()}
        for posting_id in sorted(made.keys() | stored.keys()):
            said, ought = _told(stored.get(posting_id)), _told(made.get(posting_id))
            if said != ought:
                yield f"the lot of posting {posting_id} is {said}, its postings make it {ought}"


def _told(lot: tuple[Any, ...] | None) -> str:
    if lot is None:
        return "not there"
    kind, nanos, left, expires_at = lot
    return f"{left} of {nanos}, {kind}{'' if expires_at is None else f' until {expires_at}'}"


def _rows(query: str, values: list[Any]) -> Iterator[tuple[Any, ...]]:
    with connection.chunked_cursor() as cursor:
        cursor.execute(query, values)
        while rows := cursor.fetchmany(_CHUNK):
            yield from rows
