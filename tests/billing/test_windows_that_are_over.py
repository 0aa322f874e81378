"""Budgets whose windows are long over: nothing of them piles up in processes, PostgreSQL or the gate."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from django.conf import settings

from accounts.core.principal import Budgets, Principal
from aggregator.lib import clock, ids, kv
from billing import flush, gate
from billing.admission import Admission, Live
from billing.core import budgets
from billing.core.budgets import Account, accounts_of, is_over
from billing.models import Tally
from billing.settlement import Settlement
from billing.spool import Spool
from tests.billing import books
from tests.billing.test_spool import settled

ODD = "total:day:2020-01-01:day:2020-01-01"
EVERY = Budgets(1, *[budgets.WINDOWS] * 3)


def names(at):
    """Of a key that has budgets of every kind in every window, and a call at an instant."""
    principal = Principal(1, "org", 1, "key_1", 1, "inference", member_id=7, budgets=EVERY)
    found = accounts_of(principal, at, ODD)
    keys = [f"key:key_1:{budgets.window(kind, at).label}" for kind in budgets.WINDOWS]
    return {account.name for account in found} | set(keys)


def before():
    return budgets.long_over(clock.now(), longest_seconds=settings.TOTAL_SECONDS)


def kept(every):
    return {name for name in every if not is_over(name, before())}


@pytest.mark.django_db
def test_tallies_of_windows_long_over_go_and_no_others():
    spool = str(ids.uuid7())
    flush.register(spool)
    now = clock.now()
    every = set().union(*(names(now - timedelta(days=days)) for days in (0, 1, 2, 6, 8, 31, 62, 3650)))
    every |= names(now - timedelta(hours=now.hour + 1))  # of a day that is over, and not for long
    Tally.objects.bulk_create(Tally(spool_id=spool, account=name, nanos=1) for name in every)

    assert flush.drop_tallies_over(before()) == len(every) - len(kept(every)) > 30
    assert set(Tally.objects.values_list("account", flat=True)) == kept(every)
    assert flush.drop_tallies_over(before()) == 0


def test_a_process_drops_its_totals_but_for_what_is_under_way_or_not_told(tmp_path):
    past, now = names(clock.now() - timedelta(days=70)), names(clock.now())
    live, owed = "key:key_2:day:2026-01-01", "user:org:week:2025-12-29:eve"

    async def work():
        spool = Spool.create(tmp_path)
        admission = Admission(spool)
        settlement = Settlement(spool, admission)
        spool.totals.update(dict.fromkeys(past | now | {live}, 5))
        admission.live["gen-1"] = Live((Account(live, "org", 1),), 1, 0.0)
        spool.settle(settled(), "org", (owed,))

        await settlement.forget_over()
        assert spool.totals.keys() == {*kept(past), *now, live, owed}

        admission.live.clear()
        spool.pending.clear()
        await settlement.forget_over()
        assert spool.totals.keys() == {*kept(past), *now}
        await admission.close()

    asyncio.run(work())


@pytest.mark.django_db
@pytest.mark.parametrize("field", ["", "h:call"])
def test_the_gate_forgets_one_that_is_long_over_whatever_was_charged_there_but_not_what_it_holds(field):
    """Its tally may have gone before it: what PostgreSQL does not know of it is nothing to anybody."""
    organization = books.make_organization()
    shard = kv.shard(organization.public_id)
    assert gate.open_epoch(shard, gate.begin(shard)) == []
    spool = str(ids.uuid7())
    flush.register(spool)
    label = budgets.window("day", clock.now() - timedelta(days=3)).label
    (account,) = (gate._account(f"budget:{organization.public_id}:{label}"),)
    assert account is not None and gate.load(account).outcome == "ok"
    kv.gate().hset(gate.wallet_key(account), mapping={f"s:{spool}": 5, "spent": 5})
    if field:
        kv.gate().hset(gate.wallet_key(account), mapping={field: f"5 {10**15}", "held": 5})

    gate.sweep()

    assert (gate.look(account) is None) == (field == "")
