"""A document as rows of a spreadsheet: every line by kind, then what else its total is made of. Pure.

The column `amount_usd` sums to the document's total, to the last digit. Units, prices and tax stand in
columns of their own.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from aggregator.lib import spreadsheets
from billing.documents import sums
from billing.documents.sums import Content

COLUMNS: Final = (
    *("document", "month", "part", "model", "endpoint", "provider", "key", "key_name", "used_in"),
    *("charged_as", "requests", "kind", "units", "unit_price_usd", "markup", "amount_usd"),
)


def write(content: Content, *, lines: Iterable[Mapping[str, Any]] | None = None) -> str:
    """The whole file. `lines` are all lines of usage, where the content sums some of them up."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows(content, lines=lines):
        writer.writerow([spreadsheets.cell(row.get(name, "")) for name in COLUMNS])
    return out.getvalue()


def rows(
    content: Content, *, lines: Iterable[Mapping[str, Any]] | None = None
) -> Iterator[dict[str, object]]:
    """Amounts are the content's own texts, as plain numbers."""
    about = {"document": content["number"] or "", "month": content["month"] or ""}
    for line in content["usage"] if lines is None else lines:
        yield from ({**about, **row} for row in _of_line(line))
    for other in content["others"] if lines is None else ():
        of = {"part": "usage", "model": other["model"], "requests": other["requests"]}
        yield {**about, **of, "kind": "provider_price", "amount_usd": _Number(other["base"])}
        yield {**about, **of, "requests": "", "kind": "markup", "amount_usd": _Number(other["markup_amount"])}
    if content["kind"] != "credit_note" and content["purpose"] != "subscription":
        for name in ("uncharged", "rounding"):
            yield {**about, "part": name, "amount_usd": _Number(content[name])}
    for part in sums.parts(content):
        if part.kind != "usage":
            says = " ".join(filter(None, (part.says, part.note)))
            yield {**about, "part": part.kind, "kind": says, "amount_usd": _Number(format(part.amount, "f"))}


class _Number:
    """A number in a cell: what a spreadsheet reads as one, whatever its sign."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


def _of_line(line: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    """A row for each kind, and one for the mark-up; where a kind has no price, one for the provider's."""
    of: dict[str, object] = {
        "part": "usage",
        **{name: line[name] for name in ("model", "endpoint", "provider", "key", "key_name")},
        "used_in": line["used_in"] or "",
        "charged_as": line["kind"],
    }
    yield {**of, "kind": "requests", "requests": line["requests"]}
    unpriced = False
    for item in line["items"]:
        unpriced = unpriced or item["base"] is None
        yield {
            **of,
            "kind": item["kind"],
            "units": item["units"],
            "unit_price_usd": "" if item["unit_price"] is None else _Number(item["unit_price"]),
            "amount_usd": "" if item["base"] is None else _Number(item["base"]),
        }
    if unpriced:
        yield {**of, "kind": "provider_price", "amount_usd": _Number(line["base"])}
    markup = _Number(line["markup"])
    yield {**of, "kind": "markup", "markup": markup, "amount_usd": _Number(line["markup_amount"])}
