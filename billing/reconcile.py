"""Whether the books are right: every invariant of money, how often it is broken, and a few examples.

What PostgreSQL tells is read in one snapshot, so that a posting under way is never taken for a breach.
The gate is compared at rest, after it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from aggregator.lib import clock, kv
from billing import alerts, gate, months, proven, quarantine, recompute, retrace
from billing.core import chart
from billing.core.budgets import wallet_account
from billing.core.document_invariants import IN_SQL as OF_DOCUMENTS
from billing.core.invariants import IN_SQL, PROVEN_IS_PROVEN, Invariant

EXAMPLES = 5
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_LOOKS = 5
_SUMS = frozenset({"postings_balance", "ledger_is_zero", "balances_are_sums", "chains_verify"})
_BETWEEN_LOOKS_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Finding:
    """One invariant, looked at."""

    name: str
    says: str
    breaches: int
    examples: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return self.breaches == 0


def tell(findings: Iterable[Finding], *, whole: bool) -> int:
    """Alert operators of every breach; how many invariants are broken.

    A look at everything also resolves the alerts of what holds again. One at what is new does not: an old
    breach is out of its sight.
    """
    broken = 0
    for finding in findings:
        if not finding.holds:
            broken += 1
            examples = "; ".join(finding.examples)
            says = f"Not true of {finding.breaches}: {finding.says}. {examples}"
            alerts.raise_alert("invariant", finding.name, says)
        elif whole:
            alerts.resolve("invariant", finding.name)
    return broken


def remember(findings: Iterable[Finding], until: datetime) -> None:
    """What was just found right need not be added up again before the night: `billing.proven`.

    Only postings of before `until`, and none while anything of the ledger's sums is wrong. Sums that are
    not what they were proven to be are made anew, from entries that are.
    """
    broken = {finding.name for finding in findings if not finding.holds}
    if not broken & _SUMS:
        proven.advance(until, anew=PROVEN_IS_PROVEN in broken)


def check(since: datetime | None = None) -> list[Finding]:
    """Look at every invariant: over what was posted or admitted since then, or over everything."""
    start = since or _BEGINNING
    with _one_snapshot():
        findings = [_ask(invariant, start, whole=since is None) for invariant in (*IN_SQL, *OF_DOCUMENTS)]
        findings.append(
            _count(
                "bills_recompute",
                "every charge is usage × price × mark-up, to the nano-dollar",
                recompute.differences(uuid.UUID(int=int(start.timestamp()) * 1000 << 80)),
            )
        )
        findings.append(
            _count(
                "chains_verify",
                "every posting holds the hash of what it says and of the one before it",
                retrace.broken_chains(start, whole=since is None),
            )
        )
        if since is None:
            findings.append(
                _count(
                    "lots_replay",
                    "each lot of credit is what its organization's postings make of it",
                    retrace.strange_lots(),
                )
            )
    findings.append(
        _count(
            "gate_agrees",
            "at rest, the gate lets every organization spend balance and credit limit, to the nano-dollar",
            _gate_differences(start, whole=since is None),
        )
    )
    findings.append(
        _count(
            "nothing_is_refused",
            "no record lies in quarantine, refused by PostgreSQL",
            (
                f"generation {name}{'' if charged else ', not charged'}"
                for name, charged in quarantine.waiting(settings.SPOOL_DIR).items()
            ),
        )
    )
    return findings


def _ask(invariant: Invariant, since: datetime, *, whole: bool) -> Finding:
    may = [
        (kind, account, sign) for kind, accounts in chart.MAY.items() for account, sign in accounts.items()
    ]
    values: dict[str, Any] = {
        "since": since,
        "now": clock.now(),
        "whole": whole,
        "proven": proven.reached(),
        "horizon": months.horizon() or _BEGINNING,
        "kinds": [kind for kind, _, _ in may],
        "accounts": [account for _, account, _ in may],
        "signs": [sign for _, _, sign in may],
    }
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH breach (says) AS ({invariant.query})"  # noqa: S608 (our own constants)
            f" SELECT (SELECT count(*) FROM breach), ARRAY(SELECT says FROM breach LIMIT {EXAMPLES})",
            values,
        )
        breaches, examples = cursor.fetchone()
    return Finding(invariant.name, invariant.says, breaches, tuple(examples))


def _count(name: str, says: str, breaches: Iterable[str]) -> Finding:
    found = iter(breaches)
    examples = tuple(islice(found, EXAMPLES))
    return Finding(name, says, len(examples) + sum(1 for _ in found), examples)


@contextmanager
def _one_snapshot() -> Iterator[None]:
    """One consistent view, without the time limit of a page. Inside a transaction, that one's view."""
    outermost = not connection.in_atomic_block
    with transaction.atomic(), connection.cursor() as cursor:
        if outermost:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SET LOCAL statement_timeout = '10min'")
        yield


def _gate_differences(since: datetime, *, whole: bool) -> Iterator[str]:
    """Wallets that the gate knows otherwise than PostgreSQL, look after look, while nothing moves."""
    suspects: dict[tuple[str, int], _Looked] = {}
    try:
        for look in range(_LOOKS):
            if look:
                time.sleep(_BETWEEN_LOOKS_SECONDS)
            seen = {owner: _look(*owner) for owner in (suspects if look else _wallets(since, whole=whole))}
            suspects = {
                owner: found
                for owner, found in seen.items()
                if found is not None and (not look or found == suspects[owner])
            }
            if not suspects:
                return
    except kv.Failed as error:
        yield f"the gate cannot be asked: {error}"
    for (organization, _), found in suspects.items():
        yield f"organization {organization} has {found.funds}, the gate says {found.left}"


@dataclass(frozen=True, slots=True)
class _Looked:
    """A wallet as the gate has it, all charges that it heard of taken off, beside PostgreSQL's word."""

    left: int
    held: int
    funds: int


def _look(organization: str, organization_id: int) -> _Looked | None:
    """None when the two agree, or when the gate has not loaded the wallet and will before it uses it."""
    view = gate.look(wallet_account(organization, organization_id))
    if view is None:
        return None
    looked = _Looked(view.credit - view.spent, view.held, _funds(organization_id))
    return None if looked.left == looked.funds else looked


def _funds(organization_id: int) -> int:
    """What the organization may spend, all charges that PostgreSQL knows taken off."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT balance_nanos + credit_limit_nanos"
            " - coalesce((SELECT sum(charge_nanos) FROM generations AS generation"
            " WHERE generation.organization_id = wallet.organization_id AND posting_id IS NULL), 0)"
            " FROM billing_wallet AS wallet WHERE organization_id = %s",
            [organization_id],
        )
        return int(cursor.fetchone()[0])


def _wallets(since: datetime, *, whole: bool) -> list[tuple[str, int]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT organization.public_id, organization.id FROM accounts_organization AS organization"
            " JOIN billing_wallet AS wallet ON wallet.organization_id = organization.id"
            " WHERE %s OR EXISTS (SELECT FROM billing_posting AS posting"
            "  WHERE posting.organization_id = organization.id AND posting.created_at >= %s)"
            " ORDER BY organization.id",
            [whole, since],
        )
        return [(str(public_id), int(organization_id)) for public_id, organization_id in cursor.fetchall()]
