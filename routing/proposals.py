"""Prices that sources state: applied by themselves when small and uncontradicted, else an operator decides.

A price is never edited: what is applied or approved is a new dated row, and the old one stays until then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction

from aggregator.lib import clock
from billing import prices
from billing.core import drift
from billing.core.drift import Difference
from billing.core.pricing import Price, parse_price
from routing import snapshot
from routing.models import CatalogVersion, PriceProposal

DRIFT_PERCENT = Decimal(1)
"""What differs by no more than this is the same price, rounded."""
BETWEEN = timedelta(days=7)
"""A price moves by itself once in so long: small steps must not add up to one that nobody approved."""

_log = structlog.get_logger(__name__)


class Moved(Exception):
    """The proposal cannot be decided so any more; the message says why."""


@dataclass(frozen=True, slots=True)
class Word:
    """What one source says that an endpoint costs. A source that knows some kinds only speaks of these."""

    source: str
    stated: Mapping[str, Any]
    partly: bool = False


def consider(endpoint: str, words: Sequence[Word], *, held: str = "") -> PriceProposal | None:
    """Compare the price in force with what the sources say, the first leading; what waits or was done.

    `held` says why nothing may be applied without an operator. None: there is nothing to do or to say. An
    endpoint without a price stays without one.
    """
    with transaction.atomic():
        _take_turns(endpoint)
        found = prices.in_force(endpoint)
        if found is None or not words:
            return None
        price, stated = found
        wanted = [_whole(word, stated) for word in words]
        differ = [drift.between(price, parse_price(0, each)) for each in wanted]
        drifts = [any(each.beyond(DRIFT_PERCENT) for each in some) for some in differ]
        waiting = PriceProposal.objects.filter(endpoint=endpoint, state=PriceProposal.WAITING).first()
        said = _Said(endpoint, price, stated)
        if not drifts[0]:
            if waiting is not None:
                _decide(waiting, PriceProposal.WITHDRAWN, "The source states the price in force again.")
            other = next((at for at, drifted in enumerate(drifts) if drifted), None)
            if other is None:
                return None
            why = f"{words[0].source} confirms the price in force."
            return said.once(PriceProposal.NOTED, words[other], wanted[other], differ[other], why)
        why = _why_it_waits(words, wanted, differ[0], held or _moved_lately(endpoint))
        if waiting is not None:
            if waiting.price_id == price.id and waiting.proposed == wanted[0] and why:
                return waiting
            _decide(waiting, PriceProposal.WITHDRAWN, "Another price took its place.")
        state = PriceProposal.WAITING if why else PriceProposal.APPLIED
        proposal = said.once(state, words[0], wanted[0], differ[0], why)
        if proposal is not None and state == PriceProposal.APPLIED:
            prices.record(endpoint, wanted[0], source=words[0].source)
            snapshot.bump()
        return proposal


def waiting() -> int:
    """How many wait for an operator."""
    return PriceProposal.objects.filter(state=PriceProposal.WAITING).count()


def waited_for() -> set[str]:
    """Which endpoints have a proposal that waits for an operator."""
    found = PriceProposal.objects.filter(state=PriceProposal.WAITING)
    return set(found.values_list("endpoint", flat=True))


def approve(proposal_id: int, *, by: str, reason: str = "") -> PriceProposal:
    """Put the proposed price in force, once however often this is asked. Raises Moved."""
    with transaction.atomic():
        proposal = _found(proposal_id)
        if proposal.state == PriceProposal.APPROVED:
            return proposal
        _must_wait(proposal)
        found = prices.in_force(proposal.endpoint)
        if found is None or found[0].id != proposal.price_id:
            raise Moved(f"The price of {proposal.endpoint} has changed since this was proposed.")
        prices.record(proposal.endpoint, proposal.proposed, source=f"{proposal.source}, approved")
        snapshot.bump()
        return _decide(proposal, PriceProposal.APPROVED, reason or proposal.reason, by=by)


def refuse(proposal_id: int, *, by: str, reason: str) -> PriceProposal:
    """Leave the price as it is; the same proposal is not made again until it changes. Raises Moved."""
    with transaction.atomic():
        proposal = _found(proposal_id)
        if proposal.state == PriceProposal.REFUSED:
            return proposal
        _must_wait(proposal)
        return _decide(proposal, PriceProposal.REFUSED, reason, by=by)


@dataclass(frozen=True, slots=True)
class _Said:
    endpoint: str
    price: Price
    stated: dict[str, Any]

    def once(
        self,
        state: str,
        word: Word,
        proposed: dict[str, Any],
        differences: Sequence[Difference],
        why: str,
    ) -> PriceProposal | None:
        """A row, unless the same was noted, or was refused, since the price in force began."""
        heard = [PriceProposal.REFUSED, *([state] if state == PriceProposal.NOTED else [])]
        if PriceProposal.objects.filter(
            endpoint=self.endpoint, price_id=self.price.id, proposed=proposed, state__in=heard
        ).exists():
            return None
        most = drift.largest(differences)
        now = clock.now()
        _log.warning(
            "a price has drifted",
            endpoint=self.endpoint,
            source=word.source,
            state=state,
            percent=None if most is None or most.percent is None else f"{most.percent:.2f}",
        )
        return PriceProposal.objects.create(
            endpoint=self.endpoint,
            source=word.source,
            state=state,
            price_id=self.price.id,
            now=self.stated,
            proposed=proposed,
            differences=[
                [each.kind, each.now, each.then, None if each.percent is None else f"{each.percent:.2f}"]
                for each in differences
            ],
            percent=None if most is None else most.percent,
            reason=why,
            created_at=now,
            decided_at=None if state == PriceProposal.WAITING else now,
        )


def _whole(word: Word, stated: Mapping[str, Any]) -> dict[str, Any]:
    """What the price would be: what a source does not speak of stays as it is."""
    return {**stated, **word.stated} if word.partly else dict(word.stated)


def _why_it_waits(
    words: Sequence[Word], wanted: Sequence[dict[str, Any]], differences: Sequence[Difference], held: str
) -> str:
    if held:
        return held
    if any(each.percent is None for each in differences):
        return "It changes from zero, to zero or in form."
    if any(each.beyond(settings.PRICE_APPROVAL_PERCENT) for each in differences):
        return f"It changes by more than {settings.PRICE_APPROVAL_PERCENT.normalize():f} %."
    if words[0].partly and (wanted[0].get("tiers") or wanted[0].get("windows")):
        return "The source does not speak of its tiers and windows, which stay as they are."
    leading = parse_price(0, wanted[0])
    for word, other in zip(words[1:], wanted[1:], strict=True):
        apart = drift.between(leading, parse_price(0, other))
        if any(each.beyond(DRIFT_PERCENT) for each in apart):
            return f"{word.source} states another price."
    return ""


def _moved_lately(endpoint: str) -> str:
    since = clock.now() - BETWEEN
    lately = PriceProposal.objects.filter(
        endpoint=endpoint, state=PriceProposal.APPLIED, created_at__gt=since
    ).exists()
    return f"It has changed by itself within {BETWEEN.days} days already." if lately else ""


def _decide(proposal: PriceProposal, state: str, reason: str, *, by: str = "fairlead") -> PriceProposal:
    proposal.state, proposal.reason, proposal.decided_by = state, reason, by
    proposal.decided_at = clock.now()
    proposal.save(update_fields=["state", "reason", "decided_by", "decided_at"])
    _log.info("a proposed price was decided", endpoint=proposal.endpoint, state=state, by=by)
    return proposal


def _found(proposal_id: int) -> PriceProposal:
    endpoint = PriceProposal.objects.values_list("endpoint", flat=True).get(pk=proposal_id)
    _take_turns(endpoint)
    return PriceProposal.objects.select_for_update().get(pk=proposal_id)


def _must_wait(proposal: PriceProposal) -> None:
    if proposal.state != PriceProposal.WAITING:
        state = PriceProposal.STATES[proposal.state].lower()
        raise Moved(f"The price proposed for {proposal.endpoint} is not waiting: it is {state}.")


def _take_turns(endpoint: str) -> None:
    """The job, a sync and an operator look at one endpoint one after the other.

    What a sync locks first comes first: who applied a price and then counted it would wait for a sync that
    waits for the endpoint.
    """
    CatalogVersion.objects.select_for_update().filter(pk=1).first()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('price proposal'), hashtext(%s))", [endpoint])
