"""A month on real models, as a person types it: read, priced by billing's own arithmetic, and shown again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from django.http import QueryDict

from aggregator.lib.errors import Refusal
from billing import quotes, receipts
from billing.core import pricing
from billing.core.usage import MOST_TOKENS, Usage
from billing.quotes import Quote, Use
from billing.receipts import Receipt
from routing.core import shelf
from routing.core.listing import Endpoint, Listing

FIELDS = ("model", "endpoint", "in", "cached", "out", "requests")
FIRST = {"in": "1200", "cached": "0", "out": "300", "requests": "100000"}
MOST_ROWS = 5
MOST_REQUESTS = 10**9


@dataclass
class Row:
    """One kind of request: `typed` has `FIELDS` as they were typed; without `use` something is wrong."""

    number: int
    typed: dict[str, str]
    endpoints: Sequence[Endpoint] = ()
    """The model's, the cheapest first."""
    chosen: Endpoint | None = None
    use: Use | None = None
    one: Receipt | None = None
    """A single request at the provider's price, without a mark-up."""
    errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Calculation:
    rows: Sequence[Row]
    quotes: Sequence[Quote]
    """One for each published plan; none while a row is wrong or none is filled in."""
    cheapest: str
    """The slug of the plan; of equals, the one without a fee."""
    query: str
    """For an address that shows the same again."""

    @property
    def requests(self) -> int:
        return sum(row.use.requests for row in self.rows if row.use)


def of(listing: Listing, data: QueryDict) -> Calculation:
    """What was asked for; without anything, an example."""
    rows = [_read(listing, number, typed) for number, typed in enumerate(_typed(listing, data), 1)]
    uses = [row.use for row in rows if row.use is not None]
    costs = quotes.compared(uses) if uses and not any(row.errors for row in rows) else ()
    return Calculation(
        rows=rows,
        quotes=costs,
        cheapest=min(costs, key=lambda each: (each.total_nanos, each.fee_nanos)).plan if costs else "",
        query=urlencode([(name, row.typed[name]) for row in rows for name in FIELDS]),
    )


def _typed(listing: Listing, data: QueryDict) -> list[dict[str, str]]:
    lists = {name: data.getlist(name)[:MOST_ROWS] for name in FIELDS}
    count = max(len(values) for values in lists.values())
    found = [
        {name: values[at].strip()[:200] if at < len(values) else "" for name, values in lists.items()}
        for at in range(count)
    ]
    found = [typed for at, typed in enumerate(found) if typed["model"] or (at == 0 and count == 1)]
    if not found:
        found = [{"model": _example(listing), "endpoint": "", **FIRST}]
    if data.get("add") and len(found) < MOST_ROWS:
        found.append({"model": "", "endpoint": "", **{name: found[-1][name] for name in FIRST}})
    return found


def _example(listing: Listing) -> str:
    """The model of the auto pool that most providers host: there is most to compare."""
    return min(
        listing.endpoints,
        key=lambda slug: (not listing.models[slug].auto, -len(listing.endpoints[slug]), slug),
        default="",
    )


def _read(listing: Listing, number: int, typed: dict[str, str]) -> Row:
    row = Row(number, typed)
    if not typed["model"]:
        return row
    _find(listing, row)
    figures = {name: _whole(row, name) for name in FIRST}
    if figures["cached"] > figures["in"]:
        row.errors.setdefault("cached", "More than the prompt has.")
    if row.chosen is not None and figures["in"] + figures["out"] > row.chosen.context_length:
        row.errors.setdefault(
            "in", f"With the answer it passes the context of {row.chosen.context_length:,}."
        )
    if row.errors or row.chosen is None:
        return row
    usage = Usage(
        input=figures["in"] - figures["cached"], cache_read=figures["cached"], output=figures["out"]
    )
    row.use = Use(usage, row.chosen.price, figures["requests"])
    row.one = receipts.before(pricing.charge(usage, row.chosen.price, receipts.NO_MARKUP))
    return row


def _find(listing: Listing, row: Row) -> None:
    """The endpoint that was named, or the model's cheapest."""
    try:
        shelf.model(listing, row.typed["model"])
    except Refusal as refusal:
        row.errors["model"] = refusal.message
        return
    row.endpoints = sorted(listing.endpoints[row.typed["model"]], key=_price)
    named = {endpoint.slug: endpoint for endpoint in row.endpoints}
    row.chosen = named.get(row.typed["endpoint"], row.endpoints[0])
    row.typed["endpoint"] = row.chosen.slug if row.typed["endpoint"] in named else ""


def _price(endpoint: Endpoint) -> tuple[object, ...]:
    return endpoint.price.rates.output, endpoint.price.rates.input, endpoint.slug


_MOST: Mapping[str, int] = {"requests": MOST_REQUESTS}


def _whole(row: Row, name: str) -> int:
    """A whole number from zero on; what is not one is an error of the row, and counts as zero."""
    text, most = row.typed[name].replace(",", ""), _MOST.get(name, MOST_TOKENS)
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal()) or len(text) > 12 or int(text) > most:
        row.errors[name] = f"A whole number from 0 to {most:,}."
        return 0
    return int(text)
