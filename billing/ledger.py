"""The ledger: the one writer of postings, entries, lots of credit and every wallet's balance.

Wallets are locked before anything is written, in the order of their ids, so two writers never wait
for each other in a ring, and an organization's postings stand in one order: that of its chain. Whoever
adds credit tells the gate after the commit: `reloads.after_commit`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction

from aggregator.lib import clock
from billing import burning
from billing.core import chain, chart
from billing.core.money import Nanos

Entries = Mapping[tuple[str, int | None], int]
"""(account, organization id, or None for an account of ours) → nanos."""

Name = tuple[str, str]
"""(kind, source id) of a posting."""


class OtherContent(ValueError):
    """This kind and source id was posted before, with other content."""


class AlreadyReversed(ValueError):
    """This posting was reversed before, under another source id."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A posting to be made; `source` says where `source_id` comes from."""

    kind: str
    source_id: str
    entries: Entries
    organization_id: int
    source: str = ""
    note: str = ""
    expires_at: datetime | None = None
    """Of promotional credit that this posting gives."""
    from_posting: int | None = None
    """A debit takes what is left of that posting's credit first; a reversal names what it reverses."""

    @property
    def name(self) -> Name:
        return self.kind, self.source_id

    @property
    def nanos(self) -> Nanos:
        """What it does to the wallet."""
        return self.entries.get((chart.WALLET, self.organization_id), 0)


@dataclass(frozen=True, slots=True)
class _Head:
    """A locked wallet: what it holds, and the end of its chain."""

    balance: Nanos
    length: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class _Link:
    """A draft in its place: after which balance, and where in the chain."""

    draft: Draft
    before: Nanos
    index: int
    hash: bytes
    created_at: datetime


def post(
    kind: str,
    source_id: str,
    *,
    entries: Entries,
    organization_id: int,
    source: str = "",
    note: str = "",
    expires_at: datetime | None = None,
    from_posting: int | None = None,
) -> int:
    """Make one posting and return its id.

    (kind, source id) is unique for ever: a repeat returns the first posting and moves nothing; a
    repeat with other content raises `OtherContent`.
    """
    draft = Draft(kind, source_id, entries, organization_id, source, note, expires_at, from_posting)
    return post_all([draft])[0]


def reverse(kind: str, source_id: str, *, of: int, source: str = "", note: str = "") -> int:
    """Undo a posting as it was recorded, whole and once; the id of the new posting.

    Credit that comes back goes into the lot that `of` was to take from, up to what that once held; what
    does not fit is new credit. Raises `AlreadyReversed`, and ValueError when there is no such posting.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT organization_id, (SELECT source_id FROM billing_posting AS reversal"
            "  WHERE from_posting_id = posting.id AND kind = ANY(%s))"
            " FROM billing_posting AS posting WHERE id = %s",
            [list(chart.REVERSALS), of],
        )
        found = cursor.fetchone()
    if found is None:
        raise ValueError(f"there is no posting {of}")
    organization_id, reversed_by = found
    if reversed_by not in (None, source_id):
        raise AlreadyReversed(f"posting {of} was reversed by {reversed_by}")
    entries = {account: -nanos for account, nanos in _entries(of).items()}
    return post(
        kind,
        source_id,
        entries=entries,
        organization_id=organization_id,
        source=source,
        note=note,
        from_posting=of,
    )


def post_all(drafts: Sequence[Draft]) -> list[int]:
    """Make many postings in one transaction, in a handful of statements; their ids, in the same order."""
    for draft in drafts:
        _refuse_unlawful(draft)
    if len({draft.name for draft in drafts}) != len(drafts):
        raise ValueError("one posting is drafted twice")
    with transaction.atomic():
        heads = lock_wallets({draft.organization_id for draft in drafts})
        _refuse_strangers(drafts)
        found = _found(drafts)
        for draft in drafts:
            if draft.name in found:
                _refuse_other_content(draft, found[draft.name])
        links = _chained([draft for draft in drafts if draft.name not in found], heads)
        if links:
            found |= _insert_postings(links)
            _insert_entries([(found[link.draft.name], link.draft.entries) for link in links])
            _move_lots(links, found)
            _move_wallets(links)
        return [found[draft.name] for draft in drafts]


def lock_wallets(organization_ids: set[int]) -> dict[int, _Head]:
    """Lock these wallets until the transaction ends. Raises ValueError when one is missing."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT organization_id, balance_nanos, chain_length, chain_hash FROM billing_wallet"
            " WHERE organization_id = ANY(%s) ORDER BY organization_id FOR NO KEY UPDATE",
            [sorted(organization_ids)],
        )
        heads = {
            organization_id: _Head(balance, length, chain.BEGINNING if end is None else bytes(end))
            for organization_id, balance, length, end in cursor.fetchall()
        }
    missing = organization_ids - heads.keys()
    if missing:
        raise ValueError(f"no wallet was opened for organization {', '.join(map(str, sorted(missing)))}")
    return heads


def lock_free_wallets(organization_ids: set[int]) -> set[int]:
    """Lock those of these wallets that nobody holds, until the transaction ends; whose they are."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT organization_id FROM billing_wallet WHERE organization_id = ANY(%s)"
            " ORDER BY organization_id FOR NO KEY UPDATE SKIP LOCKED",
            [sorted(organization_ids)],
        )
        return {row[0] for row in cursor.fetchall()}


def _refuse_unlawful(draft: Draft) -> None:
    chart.refuse_unlawful(draft.kind, draft.entries)
    if any(owner not in (None, draft.organization_id) for _, owner in draft.entries):
        raise ValueError(f"a {draft.kind} posting may not touch the wallet of another organization")
    gives_promotion = draft.nanos > 0 and chart.credit_kind(draft.kind) == "promotion"
    if draft.expires_at is not None and not gives_promotion:
        raise ValueError(f"the credit of a {draft.kind} posting does not expire")


def _refuse_strangers(drafts: Sequence[Draft]) -> None:
    """A posting names another only of its own organization."""
    named = [draft for draft in drafts if draft.from_posting is not None]
    if not named:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, organization_id FROM billing_posting WHERE id = ANY(%s)",
            [[draft.from_posting for draft in named]],
        )
        owners = dict(cursor.fetchall())
    for draft in named:
        if owners.get(draft.from_posting) != draft.organization_id:
            raise ValueError(f"its organization has no posting {draft.from_posting}")


def _found(drafts: Sequence[Draft]) -> dict[Name, int]:
    """Those of the drafts that were posted before, with their postings' ids."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT kind, source_id, id FROM billing_posting"
            " JOIN unnest(%s::text[], %s::text[]) AS draft (kind, source_id) USING (kind, source_id)",
            [[draft.kind for draft in drafts], [draft.source_id for draft in drafts]],
        )
        return {(kind, source_id): posting_id for kind, source_id, posting_id in cursor.fetchall()}


def _chained(drafts: Iterable[Draft], heads: Mapping[int, _Head]) -> list[_Link]:
    """Each draft after the one before it of its organization."""
    ends = dict(heads)
    created_at = clock.now()
    links = []
    for draft in drafts:
        end = ends[draft.organization_id]
        index = end.length + 1
        hashed = chain.link(
            end.hash,
            index=index,
            kind=draft.kind,
            source=draft.source,
            source_id=draft.source_id,
            note=draft.note,
            created_at=created_at,
            expires_at=draft.expires_at,
            from_posting=draft.from_posting,
            entries=draft.entries,
        )
        links.append(_Link(draft, end.balance, index, hashed, created_at))
        ends[draft.organization_id] = _Head(end.balance + draft.nanos, index, hashed)
    return links


def _insert_postings(links: Sequence[_Link]) -> dict[Name, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO billing_posting (kind, source, source_id, organization_id, note, expires_at,
                                         from_posting_id, chain_index, chain_hash, created_at)
            SELECT draft.*, %s
            FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[], %s::text[], %s::timestamptz[],
                        %s::bigint[], %s::bigint[], %s::bytea[]) AS draft
            ON CONFLICT (kind, source_id) DO NOTHING
            RETURNING kind, source_id, id
            """,
            [
                links[0].created_at,
                [link.draft.kind for link in links],
                [link.draft.source for link in links],
                [link.draft.source_id for link in links],
                [link.draft.organization_id for link in links],
                [link.draft.note for link in links],
                [link.draft.expires_at for link in links],
                [link.draft.from_posting for link in links],
                [link.index for link in links],
                [link.hash for link in links],
            ],
        )
        fresh = {(kind, source_id): posting_id for kind, source_id, posting_id in cursor.fetchall()}
    for link in links:
        if link.draft.name not in fresh:  # not there a moment ago, and ours are locked: another's
            raise OtherContent(
                f"{link.draft.kind} {link.draft.source_id} was posted for another organization"
            )
    return fresh


def _insert_entries(postings: Sequence[tuple[int, Entries]]) -> None:
    lines = [
        (posting_id, account, organization_id, nanos)
        for posting_id, entries in postings
        for (account, organization_id), nanos in entries.items()
    ]
    columns = [list(column) for column in zip(*lines, strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO billing_account (kind, organization_id)
            SELECT DISTINCT kind, organization_id
            FROM unnest(%s::text[], %s::bigint[]) AS line (kind, organization_id)
            WHERE NOT EXISTS (SELECT FROM billing_account AS known
                              WHERE known.kind = line.kind
                                AND known.organization_id IS NOT DISTINCT FROM line.organization_id)
            ON CONFLICT DO NOTHING
            """,
            columns[1:3],
        )
        cursor.execute(
            """
            INSERT INTO billing_entry (posting_id, account_id, nanos)
            SELECT line.posting_id, account.id, line.nanos
            FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bigint[])
                 AS line (posting_id, kind, organization_id, nanos)
            JOIN billing_account AS account
              ON account.kind = line.kind
             AND coalesce(account.organization_id, 0) = coalesce(line.organization_id, 0)
            """,
            columns,
        )
        if cursor.rowcount != len(lines):
            raise RuntimeError(f"{cursor.rowcount} of {len(lines)} entries were written")


def _move_lots(links: Iterable[_Link], found: Mapping[Name, int]) -> None:
    """Credits become lots and debits burn them, in turns, so that no organization has two in one."""
    turns: list[list[burning.Move]] = []
    moved: Counter[int] = Counter()
    for link in links:
        draft = link.draft
        if not draft.nanos:
            continue
        turn = moved[draft.organization_id]
        moved[draft.organization_id] += 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(
            burning.Move(
                found[draft.name],
                draft.organization_id,
                chart.credit_kind(draft.kind),
                draft.nanos,
                min(draft.nanos, max(link.before + draft.nanos, 0)),
                draft.expires_at,
                draft.from_posting,
            )
        )
    for moves in turns:
        burning.give([move for move in moves if move.nanos > 0])
        burning.burn([move for move in moves if move.nanos < 0])


def _move_wallets(links: Iterable[_Link]) -> None:
    """Their balances, and the ends of their chains."""
    moved: Counter[int] = Counter()
    ends: dict[int, _Link] = {}
    for link in links:
        moved[link.draft.organization_id] += link.draft.nanos
        ends[link.draft.organization_id] = link
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE billing_wallet AS wallet
            SET balance_nanos = balance_nanos + moved.nanos, chain_length = moved.length,
                chain_hash = moved.hash
            FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bytea[])
                 AS moved (organization_id, nanos, length, hash)
            WHERE wallet.organization_id = moved.organization_id
            """,
            [
                list(ends),
                [moved[owner] for owner in ends],
                [end.index for end in ends.values()],
                [end.hash for end in ends.values()],
            ],
        )


def _refuse_other_content(draft: Draft, posting_id: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT organization_id, expires_at, from_posting_id FROM billing_posting WHERE id = %s",
            [posting_id],
        )
        said = cursor.fetchone()
    same = said == (draft.organization_id, draft.expires_at, draft.from_posting)
    if not same or _entries(posting_id) != dict(draft.entries):
        raise OtherContent(f"{draft.kind} {draft.source_id} was posted before with other content")


def _entries(posting_id: int) -> dict[tuple[str, int | None], int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT account.kind, account.organization_id, entry.nanos"
            " FROM billing_entry AS entry JOIN billing_account AS account ON account.id = entry.account_id"
            " WHERE entry.posting_id = %s",
            [posting_id],
        )
        return {(kind, owner): nanos for kind, owner, nanos in cursor.fetchall()}
