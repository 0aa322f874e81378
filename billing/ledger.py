"""The ledger: the one writer of postings, entries and every wallet's balance.

Wallets are locked before anything is written, in the order of their ids, so two writers never wait
for each other in a ring. Whoever adds credit tells the gate after the commit: `wallets.reload`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db import connection, transaction

from aggregator.lib import clock
from billing import chart

Entries = Mapping[tuple[str, int | None], int]
"""(account, organization id, or None for an account of ours) → nanos."""


class OtherContent(ValueError):
    """This kind and source id was posted before, with other content."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A posting to be made; `source` says where `source_id` comes from."""

    kind: str
    source_id: str
    entries: Entries
    organization_id: int | None = None
    source: str = ""
    note: str = ""


def post(
    kind: str,
    source_id: str,
    *,
    entries: Entries,
    organization_id: int | None = None,
    source: str = "",
    note: str = "",
) -> int:
    """Make one posting and return its id.

    (kind, source id) is unique for ever: a repeat returns the first posting and moves nothing; a
    repeat with other content raises `OtherContent`.
    """
    return post_all([Draft(kind, source_id, entries, organization_id, source, note)])[0]


def post_all(drafts: Sequence[Draft]) -> list[int]:
    """Make many postings in one transaction, in a handful of statements; their ids, in the same order."""
    for draft in drafts:
        chart.refuse_unlawful(draft.kind, draft.entries)
    with transaction.atomic():
        lock_wallets(
            {
                organization_id
                for draft in drafts
                for account, organization_id in draft.entries
                if account == chart.WALLET and organization_id is not None
            }
        )
        found, fresh = _insert_postings(drafts)
        for draft in drafts:
            if (draft.kind, draft.source_id) not in fresh:
                _refuse_other_content(draft, found[draft.kind, draft.source_id])
        _insert_entries([(found[key], fresh[key].entries) for key in fresh])
        return [found[draft.kind, draft.source_id] for draft in drafts]


def lock_wallets(organization_ids: set[int]) -> None:
    """Lock these wallets until the transaction ends. Raises ValueError when one is missing."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT organization_id FROM billing_wallet WHERE organization_id = ANY(%s)"
            " ORDER BY organization_id FOR NO KEY UPDATE",
            [sorted(organization_ids)],
        )
        missing = organization_ids - {row[0] for row in cursor.fetchall()}
    if missing:
        raise ValueError(f"no wallet was opened for organization {', '.join(map(str, sorted(missing)))}")


def _insert_postings(
    drafts: Sequence[Draft],
) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], Draft]]:
    """The ids of all postings by (kind, source id), and the drafts that were not there before."""
    by_key = {(draft.kind, draft.source_id): draft for draft in drafts}
    if len(by_key) != len(drafts):
        raise ValueError("one posting is drafted twice")
    rows = list(by_key.values())
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO billing_posting (kind, source, source_id, organization_id, note, created_at)
            SELECT kind, source, source_id, organization_id, note, %s
            FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[], %s::text[])
                 AS draft (kind, source, source_id, organization_id, note)
            ON CONFLICT (kind, source_id) DO NOTHING
            RETURNING kind, source_id, id
            """,
            [
                clock.now(),
                [draft.kind for draft in rows],
                [draft.source for draft in rows],
                [draft.source_id for draft in rows],
                [draft.organization_id for draft in rows],
                [draft.note for draft in rows],
            ],
        )
        found = {(kind, source_id): posting_id for kind, source_id, posting_id in cursor.fetchall()}
        fresh = {key: by_key[key] for key in found}
        for kind, source_id in by_key.keys() - found.keys():
            cursor.execute(
                "SELECT id FROM billing_posting WHERE kind = %s AND source_id = %s", [kind, source_id]
            )
            found[kind, source_id] = cursor.fetchone()[0]
    return found, fresh


def _insert_entries(postings: Sequence[tuple[int, Entries]]) -> None:
    lines = [
        (posting_id, account, organization_id, nanos)
        for posting_id, entries in postings
        for (account, organization_id), nanos in entries.items()
    ]
    if not lines:
        return
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
        cursor.execute(
            """
            UPDATE billing_wallet SET balance_nanos = balance_nanos + moved.nanos
            FROM (SELECT organization_id, sum(nanos)::bigint AS nanos
                  FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS line (kind, organization_id, nanos)
                  WHERE kind = %s GROUP BY organization_id) AS moved
            WHERE billing_wallet.organization_id = moved.organization_id
            """,
            [*columns[1:], chart.WALLET],
        )


def _refuse_other_content(draft: Draft, posting_id: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT organization_id FROM billing_posting WHERE id = %s", [posting_id])
        (organization_id,) = cursor.fetchone()
        cursor.execute(
            "SELECT account.kind, account.organization_id, entry.nanos"
            " FROM billing_entry AS entry JOIN billing_account AS account ON account.id = entry.account_id"
            " WHERE entry.posting_id = %s",
            [posting_id],
        )
        entries = {(kind, owner): nanos for kind, owner, nanos in cursor.fetchall()}
    if organization_id != draft.organization_id or entries != dict(draft.entries):
        raise OtherContent(f"{draft.kind} {draft.source_id} was posted before with other content")
