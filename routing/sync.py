"""From catalog files to rows: idempotent, and what an operator has changed stays."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import transaction

from aggregator.lib import clock
from billing import prices
from billing.core.pricing import parse_price
from routing import catalog, proposals, snapshot
from routing.catalog import ListedEndpoint, ListedModel, ListedProvider
from routing.models import Catalogued, CatalogVersion, Endpoint, Model, PriceProposal, Provider
from routing.proposals import Word

FILE = "catalog"
"""The source of prices that a file states."""

Kind = type[Provider] | type[Model] | type[Endpoint]

PROVIDER_FIELDS = (
    "name",
    "dialect",
    "base_url",
    "env_prefix",
    "sandbox",
    "keyless",
    "quirks",
    "region",
    "data_policy",
)
MODEL_FIELDS = (
    "name",
    "description",
    "context_length",
    "max_output",
    "model_class",
    "auto",
    "listed",
    "capabilities",
    "released",
)
ENDPOINT_FIELDS = (
    "upstream_name",
    "max_context",
    "max_output",
    "quantization",
    "parameters",
    "data_policy",
    "ttft_ms",
    "tokens_per_second",
)
FIELDS: dict[type[Catalogued], tuple[str, ...]] = {
    Provider: PROVIDER_FIELDS,
    Model: MODEL_FIELDS,
    Endpoint: ENDPOINT_FIELDS,
}


@dataclass
class Report:
    """What a sync did, one line each; a refusal is no change, it is said every time."""

    changes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    """Prices that differ from those in force and wait for an operator, said every time too."""


def sync(folder: Path = catalog.FOLDER) -> Report:
    """Bring the rows to what the files say. Raises `catalog.CatalogError` before anything is written."""
    files = catalog.load(folder)
    report = Report()
    priced = _resolve_prices(files.endpoints, report)
    with transaction.atomic():
        CatalogVersion.objects.get_or_create(pk=1)
        CatalogVersion.objects.select_for_update().get(pk=1)  # one sync at a time
        providers = _bring(Provider, {slug: _said(row) for slug, row in files.providers.items()}, report)
        listed = {files.endpoints[slug].model for slug in priced}
        models = _bring(Model, {slug: _said(files.models[slug]) for slug in sorted(listed)}, report)
        _bring(
            Endpoint,
            {slug: _said(files.endpoints[slug]) for slug in priced},
            report,
            links={
                slug: {
                    "provider": providers[files.endpoints[slug].provider],
                    "model": models[files.endpoints[slug].model],
                }
                for slug in priced
            },
        )
        _record_prices(files, priced, report)
        if report.changes:
            snapshot.bump()
    return report


def save_edit(row: Catalogued, changed: Collection[str]) -> None:
    """Save what an operator changed in the admin: from now on these fields are held against the files."""
    fields = FIELDS[type(row)]
    edited = fields if row.pk is None else [name for name in fields if name in changed]
    with transaction.atomic():
        row.held = sorted({*row.held, *edited})
        row.save()
        snapshot.bump()


def _said(listed: ListedProvider | ListedModel | ListedEndpoint) -> dict[str, Any]:
    """The row's fields as the file has them."""
    fields = {
        ListedProvider: PROVIDER_FIELDS,
        ListedModel: MODEL_FIELDS,
        ListedEndpoint: ENDPOINT_FIELDS,
    }[type(listed)]
    values = {name: getattr(listed, name) for name in fields}
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in values.items()}


def _resolve_prices(
    endpoints: Mapping[str, ListedEndpoint], report: Report
) -> dict[str, tuple[dict[str, Any], str]]:
    """(stated price, source) of each endpoint; one without a price is refused, never free."""
    from routing.core import pricelist  # half a second of import that only a sync should pay

    now = clock.now()
    found: dict[str, tuple[dict[str, Any], str]] = {}
    for slug, endpoint in endpoints.items():
        if endpoint.prices is not None:
            found[slug] = dict(endpoint.prices), FILE
            continue
        try:
            found[slug] = pricelist.stated(endpoint.price_list or "", now=now), pricelist.SOURCE
        except pricelist.Unpriced as error:
            report.refused.append(f"{slug} is not listed: {error}")
    return found


def _bring(
    kind: Kind,
    wanted: Mapping[str, Mapping[str, Any]],
    report: Report,
    *,
    links: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Create, change and retire the rows of one table; returns those that are wanted, by slug."""
    rows: dict[str, Any] = {row.slug: row for row in _rows(kind)}
    name = kind.__name__.lower()
    new: list[Any] = []
    for slug, fields in wanted.items():
        row = rows.get(slug)
        if row is None:
            rows[slug] = kind(slug=slug, from_catalog=True, **fields, **(links or {}).get(slug, {}))
            new.append(rows[slug])
            report.changes.append(f"{name} {slug}: new")
            continue
        fields = {key: value for key, value in fields.items() if key not in row.held}
        fields |= {"retired": False, "from_catalog": True}
        changed = [key for key, value in fields.items() if getattr(row, key) != value]
        if changed:
            for key in changed:
                setattr(row, key, fields[key])
            row.save()
            report.changes.append(f"{name} {slug}: {', '.join(changed)}")
    for slug, row in rows.items():
        if slug not in wanted and row.from_catalog and not row.retired:
            row.retired = True
            row.save()
            report.changes.append(f"{name} {slug}: retired")
    kind._default_manager.bulk_create(new)
    return rows


def _rows(kind: Kind) -> Iterable[Any]:
    if kind is Endpoint:
        return Endpoint.objects.select_related("provider", "model").select_for_update(of=("self",))
    return kind._default_manager.select_for_update()


def _record_prices(
    files: catalog.Catalog, priced: Mapping[str, tuple[dict[str, Any], str]], report: Report
) -> None:
    """At once: what had no price, and what a file says anew. Another price of the list is considered."""
    before, said, waiting = prices.current(), prices.last_from(FILE), proposals.waited_for()
    news = {}
    for slug, (stated, source) in priced.items():
        if slug not in before or (source == FILE and said.get(slug) != parse_price(0, stated)):
            news[slug] = stated, source
        elif source != FILE and (slug in waiting or before[slug] != parse_price(before[slug].id, stated)):
            _consider(files, slug, Word(source, stated), report)
    now = prices.record_all(news)
    for slug, (stated, source) in news.items():
        known = before.get(slug)
        if known is None or known.id != now[slug]:
            report.changes.append(f"price {slug}: {stated['input']} / {stated['output']} from {source}")


def _consider(files: catalog.Catalog, slug: str, word: Word, report: Report) -> None:
    """Where a provider publishes prices the price job decides, which hears both."""
    if files.providers[files.endpoints[slug].provider].publishes_prices:
        return
    proposal = proposals.consider(slug, [word])
    if proposal is None:
        return
    line = f"price {slug}: {word.stated['input']} / {word.stated['output']} from {word.source}"
    if proposal.state == PriceProposal.APPLIED:
        report.changes.append(line)
    else:
        report.waiting.append(f"{line} waits for approval: {proposal.reason}")
