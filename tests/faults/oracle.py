"""Whether three independent accounts of what happened agree: the client's log, our books, the sandbox's bill.

`agree` waits until everything is at rest, and then nothing may differ by a nano-dollar:

    the client   every complete answer is one row with its cost; what failed cost nothing; what broke is at
                 most one row
    the sandbox  every call that it took is one row; what it bills × the mark-up is the charge
    the wallet   given − charges = balance in PostgreSQL = what the gate says, and nothing is held
    the spool    every folder is that of a living worker, and empty
    the ledger   every invariant of `check_ledger`
"""

from __future__ import annotations

import json
import random
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from tests.faults.load import Customer, Log, call
from tests.faults.stand import LEASE, WORKERS, Stand

MARKUP = Decimal("1.10")
"""The Free plan's."""
REST_SECONDS = LEASE + 60
_RECEIPTS = 12


@dataclass(frozen=True)
class Verdict:
    """What was compared, for the report."""

    ok: int
    failed: int
    unknown: int
    rows: int
    lost: int
    double: int
    holds: int
    probed: float
    """Seconds until a probe was served."""
    rested: float
    """Seconds until everything was at rest."""


def agree(
    stand: Stand,
    customers: Sequence[Customer],
    log: Log,
    *,
    seed: int,
    probe_within: float = 60,
    kept: int = 0,
) -> Verdict:
    """Raises AssertionError where two accounts differ. `kept`: folders of the spool that are to stay."""
    probed = probe(stand, customers, log, within=probe_within)
    began = time.monotonic()
    rows = _await_rest(stand, customers, log, kept=kept)
    rested = time.monotonic() - began
    by_id = {row["id"]: row for row in rows}
    lost, double = _compare_clients(log, rows, by_id)
    assert (lost, double) == ([], []), f"lost {lost}, double {double}; {log.counts}"
    _compare_sandbox(stand, log, rows)
    _compare_receipts(stand, customers, log, random.Random(seed))
    assert stand.desk.breaches() == []
    counts = [len(log.of(outcome)) for outcome in ("ok", "failed", "unknown")]
    return Verdict(
        *counts, rows=len(rows), lost=0, double=0, holds=0, probed=round(probed, 1), rested=round(rested, 1)
    )


def probe(stand: Stand, customers: Sequence[Customer], log: Log, *, within: float) -> float:
    """Seconds until each customer was served again; a fault of ours is never a 401, 402 or 403."""
    began = time.monotonic()
    for customer in customers:
        while (entry := call(stand.product.api_base, customer, log, max_tokens=1)).outcome != "ok":
            assert entry.status in (None, 502, 503), entry
            assert time.monotonic() - began < within, f"not served again: {entry}\n{stand.log()}"
            time.sleep(0.1)
    return time.monotonic() - began


# ── At rest ──────────────────────────────────────────────────────────────────────────────────────


def _await_rest(stand: Stand, customers: Sequence[Customer], log: Log, *, kept: int) -> list[dict[str, Any]]:
    """The rows of these customers, once nothing moves any more and nothing is held."""
    organizations = {customer.organization.id: customer for customer in customers}
    until = time.monotonic() + REST_SECONDS
    swept = time.monotonic() + LEASE + 0.5
    while True:
        restless = [*_spool_waits(stand, kept=kept), *_money_waits(stand, list(organizations.values()))]
        if not restless:
            return [row for number in organizations for row in _rows(stand, number)]
        assert time.monotonic() < until, f"not at rest: {restless}\n{stand.log()}"
        if time.monotonic() > swept and any("held" in what for what in restless):
            for customer in organizations.values():  # a lease that is over is swept by the next call
                call(stand.product.api_base, customer, log, max_tokens=1)
            swept = time.monotonic() + 1
        time.sleep(0.1)


def _spool_waits(stand: Stand, *, kept: int) -> list[str]:
    folders = list(stand.spools.iterdir())
    full = [path for folder in folders for path in folder.glob("*.jsonl") if path.stat().st_size]
    live = [folder for folder in folders if not folder.suffix]
    registered = {str(found) for (found,) in stand.ask("SELECT id FROM spools")}
    waits = [f"records wait in {path}" for path in full if not path.parent.suffix]
    if len(live) != WORKERS or {folder.name for folder in live} != registered:
        waits.append(f"spools {sorted(registered)}, folders {sorted(folder.name for folder in folders)}")
    if len(folders) - len(live) != kept:
        waits.append(f"left behind: {[folder.name for folder in folders if folder.suffix]}")
    return waits


def _money_waits(stand: Stand, customers: Sequence[Customer]) -> list[str]:
    waits = []
    for customer in customers:
        number = customer.organization.id
        ((charged, unposted),) = stand.ask(
            "SELECT coalesce(sum(charge_nanos), 0)::bigint, count(*) FILTER (WHERE posting_id IS NULL)"
            " FROM generations WHERE organization_id = %s",
            number,
        )
        wallet = stand.desk.wallet(customer.organization)
        due = stand.opened[number] - int(str(charged))
        if unposted or wallet.balance != due:
            waits.append(f"{unposted} unposted, balance {wallet.balance} of {due}")
        elif wallet.holds or wallet.held:
            waits.append(f"held {wallet}")
        elif wallet.credit is not None and wallet.credit - wallet.spent != due:
            waits.append(f"the gate says {wallet.credit - wallet.spent} of {due}")
    return waits


def _rows(stand: Stand, organization: int) -> list[dict[str, Any]]:
    found = stand.ask(
        "SELECT 'gen-' || replace(id::text, '-', ''), status, charge_nanos, base_nanos, loss_nanos,"
        " user_agent, upstream_id, error_type, estimated FROM generations WHERE organization_id = %s",
        organization,
    )
    names = ("id", "status", "charge", "base", "loss", "label", "upstream", "error", "estimated")
    return [dict(zip(names, row, strict=True)) for row in found]


# ── Side by side ─────────────────────────────────────────────────────────────────────────────────


def _compare_clients(
    log: Log, rows: list[dict[str, Any]], by_id: dict[str, dict[str, Any]]
) -> tuple[list[str], list[str]]:
    """What was delivered and not charged (once, exactly); what was charged otherwise than it was told."""
    lost, double = [], []
    for entry in log.of("ok"):
        row = by_id.get(entry.id)
        if row is None or (row["status"], row["charge"]) != ("completed", entry.cost):
            lost.append(f"{entry} has {row}")
    for entry in log.of("failed"):
        row = by_id.get(entry.id)
        if row is not None and row["charge"]:
            double.append(f"{entry} was charged: {row}")
    per_label = Counter(row["label"] for row in rows if row["label"])
    double += [f"{label} has {count} rows" for label, count in per_label.items() if count > 1]
    labels = {entry.label for entry in log.entries}
    double += [f"nobody made {row}" for row in rows if row["label"] and row["label"] not in labels]
    # A row without a label is that of a call whose worker was killed: somebody's, whose end nobody saw.
    nameless = [row for row in rows if not row["label"]]
    double += [f"not void: {row}" for row in nameless if row["status"] != "void" or row["charge"]]
    open_ends = [entry for entry in log.of("unknown") if entry.label not in per_label]
    if len(nameless) > len(open_ends):
        double.append(f"{len(nameless)} void rows for {len(open_ends)} calls that broke")
    return lost, double


def _compare_sandbox(stand: Stand, log: Log, rows: list[dict[str, Any]]) -> None:
    """Every call that the sandbox took is one row, billed to the nano-dollar what it bills."""
    labels = {entry.label for entry in log.entries}
    bill = stand.sandbox.bill()
    assert bill["complete"]
    taken = {called["id"]: called for called in bill["calls"] if called["user"] in labels}
    by_upstream = Counter(row["upstream"] for row in rows if row["upstream"])
    assert [each for each, count in by_upstream.items() if count > 1] == []
    for row in rows:
        if row["status"] != "completed":
            assert row["charge"] == 0 or row["status"] == "aborted", row
            continue
        called = taken.get(row["upstream"])
        assert called is not None and called["user"] == row["label"], (row, called)
        if not row["estimated"]:
            exact = Decimal(called["cost_usd"]) * MARKUP * 10**9
            assert row["charge"] == int(exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN)), (row, called)
    known = {row["label"] for row in rows if row["label"]}
    nameless = sum(1 for row in rows if not row["label"])
    unknown_to_us = [called for called in taken.values() if called["user"] not in known]
    assert len({called["user"] for called in unknown_to_us}) <= nameless, (
        f"the sandbox took {unknown_to_us}, of which no row knows"
    )


def _compare_receipts(stand: Stand, customers: Sequence[Customer], log: Log, chance: random.Random) -> None:
    """What a customer reads afterwards is what it was told then: of some calls, chosen by the seed."""
    texts = {customer.organization.id: customer.text for customer in customers}
    done = log.of("ok")
    for entry in chance.sample(done, min(_RECEIPTS, len(done))):
        request = urllib.request.Request(
            f"{stand.product.api_base}/generation?id={entry.id}",
            headers={"Authorization": f"Bearer {texts[entry.organization]}"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            data = json.loads(answer.read())["data"]
        assert (data["id"], data["cost_nanos"]) == (entry.id, entry.cost), (entry, data)
