"""Credit taken out of the gate while PostgreSQL is changed, so that no call spends it meanwhile.

A refund or an expiry takes credit away that a call may be about to spend, and the gate knows of it only
after the commit. So it first takes a hold there, as a call does: what is spendable then is what nobody
spends and nobody holds. The hold goes when the gate has loaded the wallet as committed. A process that
dies in between loses nothing: the hold has a lease.

A Redis that restarts inside the block forgets the hold. Calls that are admitted in its new epoch before
the commit may then spend the same credit once more: that much the wallet falls short, and it is logged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from accounts.models import Organization
from aggregator.lib import ids, kv
from aggregator.lib.errors import Refusal, unavailable
from billing import gate, wallets
from billing.core import gate_scripts
from billing.core.budgets import Account, wallet_account
from billing.core.money import MOST_NANOS, Nanos, usd
from billing.models import Wallet

log = logging.getLogger(__name__)

_RESERVE = kv.Script(gate_scripts.RESERVE)
_RELEASE = kv.Script(gate_scripts.RELEASE)
_WAIT_SECONDS = 2.0
_LOOK_AGAIN_SECONDS = 0.05


@contextmanager
def credit(organization_id: int, nanos: Nanos, *, at_most: bool = False) -> Iterator[Nanos]:
    """Hold this much of the organization's own credit, without its credit limit; yields what was taken.

    Inside the block the posting is committed. `at_most` takes what there is of it, down to nothing;
    otherwise what is not there is Refusal 402 `insufficient_credit`, and nothing is held. A gate that
    cannot say is Refusal 503. The block should be over well within `HOLD_LEASE_SECONDS`.
    """
    if not 0 < nanos <= MOST_NANOS:
        raise ValueError("a reservation is more than zero and less than nine million dollars")
    organization = Organization.objects.get(pk=organization_id)
    account = wallet_account(organization.public_id, organization_id)
    name = f"reserve-{ids.uuid7()}"
    try:
        taken = _take(account, name, nanos, at_most=at_most)
    except kv.Failed as error:
        _release(account, name)  # in case only the answer was lost
        raise unavailable("The gate") from error
    try:
        yield taken
    finally:
        if taken and _is_told(account, taken):
            _release(account, name)


def _take(account: Account, name: str, nanos: Nanos, *, at_most: bool) -> Nanos:
    until = time.monotonic() + _WAIT_SECONDS
    while True:
        epoch = str(kv.gate().hget(gate.epoch_key(kv.shard(account.organization)), "id") or "")
        wallet = Wallet.objects.of(account.organization_id)
        limit, version = wallet.values_list("credit_limit_nanos", "terms_version").first() or (0, 0)
        lease_ms = settings.HOLD_LEASE_SECONDS * 1000
        outcome, *rest = _RESERVE.run(
            [gate.wallet_key(account)],
            [epoch, name, nanos, lease_ms, limit, int(at_most), version],
        )
        if outcome == "ok":
            return int(rest[0])
        if outcome == "no":
            spendable = max(int(rest[0]), 0)
            raise Refusal(
                "insufficient_credit",
                f"${usd(nanos)} is not there: ${usd(spendable)} is neither spent nor held by a call.",
                status=402,
                metadata={"spendable": usd(spendable)},
            )
        if time.monotonic() > until:
            raise unavailable("The gate")
        if not _is_loaded(account):
            time.sleep(_LOOK_AGAIN_SECONDS)


def _is_loaded(account: Account) -> bool:
    """Load the wallet; where no epoch is open, open one if every spool has joined it."""
    loaded = gate.load(account)
    if loaded.outcome == "absent":
        wallets.open_wallet(account.organization_id)
    elif loaded.outcome != "ok":
        shard = kv.shard(account.organization)
        return gate.open_epoch(shard, gate.begin(shard)) == []
    return True


def _is_told(account: Account, taken: Nanos) -> bool:
    """Whether the gate has the wallet as it is committed now. If not, the hold stays until its lease ends."""
    try:
        loaded = gate.load(account)
    except (kv.Failed, Refusal) as error:
        log.warning("credit stays held until its lease ends", extra={"error": str(error)})
        return False
    if loaded.outcome == "ok" and loaded.spendable + taken < 0:
        log.error("credit was spent while it was reserved", extra={"account": account.name})
    return loaded.outcome == "ok"


def _release(account: Account, name: str) -> None:
    try:
        _RELEASE.run([gate.wallet_key(account)], [name])
    except kv.Failed as error:
        log.warning("credit stays held until its lease ends", extra={"error": str(error)})
