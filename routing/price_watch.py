"""The price job: what the price list and the providers state, compared with what we charge by; alerts.

Nothing that a source says or fails to say takes a price away: what is in force stays until another is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from smtplib import SMTPException
from typing import Any

import structlog
from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction

from aggregator.lib import clock
from routing import catalog, proposals, published, snapshot
from routing.catalog import ListedEndpoint
from routing.core.listing import Listing
from routing.models import Endpoint, PriceProposal, PriceSource
from routing.proposals import Word

LIST = "genai-prices"
SILENT = timedelta(days=1)
MOST_LINES = 50
FILE_SAYS = "The catalog file states a price of its own: change it there too."

_log = structlog.get_logger(__name__)


@dataclass
class Report:
    """What a run found, by endpoint; `silent` names the sources that could not be read."""

    applied: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)


def watch(folder: Path = catalog.FOLDER) -> Report:
    """One run: compare every endpoint that has a price, tell operators once of what is new."""
    files = catalog.load(folder)
    listing = snapshot.read()
    report = Report()
    stated = _published(files, listing, report)
    known = set(Endpoint.objects.filter(retired=False).values_list("slug", flat=True))
    for slug in sorted(known & set(files.endpoints)):
        endpoint = files.endpoints[slug]
        words = [*_word_of_provider(endpoint, stated), *_word_of_list(endpoint)]
        proposal = proposals.consider(slug, words, held=FILE_SAYS if endpoint.prices is not None else "")
        if proposal is not None:
            _into(report, proposal).append(slug)
    _seen(LIST, version=_list().SOURCE)
    tell()
    return report


def tell() -> None:
    """One message to the operators of all that they have not heard of; nothing, when that is nothing."""
    with transaction.atomic():
        new = list(PriceProposal.objects.select_for_update(skip_locked=True).filter(told_at=None))
        silent = [
            source
            for source in PriceSource.objects.select_for_update(skip_locked=True).filter(silence_told_at=None)
            if source.problem and source.tried_at - source.seen_at >= SILENT
        ]
        now = clock.now()
        PriceProposal.objects.filter(pk__in=[row.pk for row in new]).update(told_at=now)
        PriceSource.objects.filter(pk__in=[row.pk for row in silent]).update(silence_told_at=now)
    for source in silent:
        _log.error("a source of prices is silent", source=source.name, problem=source.problem)
    new = [row for row in new if row.state != PriceProposal.WITHDRAWN]
    if not (new or silent) or not settings.OPERATOR_EMAILS:
        return
    try:
        send_mail(_subject(new, silent), _message(new, silent), None, settings.OPERATOR_EMAILS)
    except (OSError, SMTPException):
        PriceProposal.objects.filter(pk__in=[row.pk for row in new]).update(told_at=None)
        PriceSource.objects.filter(pk__in=[row.pk for row in silent]).update(silence_told_at=None)
        raise


def _published(files: catalog.Catalog, listing: Listing, report: Report) -> dict[str, Any]:
    """Prices by the provider's own names, of each provider that is on, publishes them and can be read."""
    providers = {each.provider.slug: each.provider for some in listing.endpoints.values() for each in some}
    found: dict[str, Any] = {}
    for slug, provider in sorted(providers.items()):
        listed = files.providers.get(slug)
        if listed is None or not listed.publishes_prices:
            continue
        try:
            found[slug] = published.fetch(provider, listed.publishes_prices)
            _seen(slug)
        except published.Unreadable as error:
            report.silent.append(slug)
            _log.warning("a provider's prices cannot be read", provider=slug, problem=str(error))
            _seen(slug, problem=str(error))
    return found


def _word_of_provider(endpoint: ListedEndpoint, stated: Mapping[str, Any]) -> list[Word]:
    found = stated.get(endpoint.provider, {}).get(endpoint.upstream_name)
    return [] if found is None else [Word(f"{endpoint.provider} itself", found, partly=True)]


def _word_of_list(endpoint: ListedEndpoint) -> list[Word]:
    pricelist = _list()
    if endpoint.price_list is None:
        return []
    try:
        return [Word(pricelist.SOURCE, pricelist.stated(endpoint.price_list, now=clock.now()))]
    except pricelist.Unpriced:  # withdrawn from the list: the price in force stays as it was
        return []


def _list() -> Any:
    from routing.core import pricelist  # half a second of import that only a sync and this job should pay

    return pricelist


def _seen(name: str, *, version: str = "", problem: str = "") -> None:
    now = clock.now()
    read = {} if problem else {"seen_at": now, "silence_told_at": None}
    row, made = PriceSource.objects.get_or_create(
        name=name,
        defaults={"version": version, "tried_at": now, "seen_at": now, "problem": problem},
    )
    if version and (made or row.version != version):
        _log.info("a release of the price list was compared", release=version, before=row.version)
    if not made:
        PriceSource.objects.filter(pk=name).update(version=version, tried_at=now, problem=problem, **read)


def shown(differences: Iterable[list[Any]]) -> list[list[Any]]:
    """Differences as people read them: signed, and of kinds that cost the same only one."""
    found: list[list[Any]] = []
    for kind, now, then, percent in differences:
        if kind.partition(" ")[0] in ("input", "output") or [now, then] not in [row[1:3] for row in found]:
            sign = "" if percent is None else f"+{percent}".replace("+-", "−")
            found.append([kind, now, then, sign])
    return found


def _into(report: Report, proposal: PriceProposal) -> list[str]:
    return {PriceProposal.APPLIED: report.applied, PriceProposal.NOTED: report.noted}.get(
        proposal.state, report.waiting
    )


def _subject(new: list[PriceProposal], silent: list[PriceSource]) -> str:
    waiting = sum(row.state == PriceProposal.WAITING for row in new)
    if waiting:
        return f"Fairlead: {waiting} price{'s' * (waiting > 1)} for you to decide"
    return "Fairlead: prices have changed" if new else "Fairlead: a source of prices is silent"


def _message(new: list[PriceProposal], silent: list[PriceSource]) -> str:
    lines = [f"{source.name} could not be read for a day: {source.problem}" for source in silent]
    for row in new[:MOST_LINES]:
        lines += [
            "",
            f"{row.endpoint}: {PriceProposal.STATES[row.state].lower()}, {row.source}. {row.reason}",
        ]
        for kind, now, then, percent in shown(row.differences):
            change = f" ({percent} %)" if percent else ""
            lines.append(f"  {kind}: {now} → {then}{change}" if now else f"  {kind} differ in form")
    if len(new) > MOST_LINES:
        lines += ["", f"And {len(new) - MOST_LINES} more."]
    return "\n".join([*lines, "", f"{settings.PUBLIC_URL}/admin/routing/priceproposal/"])
