"""What a document shows, in which order and in which words: the same for its page and for its PDF. Pure.

Takes a document's content (canonical JSON; amounts are plain decimal strings in USD), gives texts alone. An
amount keeps every digit that it has, and stands in one table with others of as many places.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any, Final

from billing.documents import sums, words
from billing.documents.sums import Content, Section, fine
from billing.documents.words import day, dollars, money, month_name, percent

FONTS: Final = ("Libertinus Serif", "Noto Sans CJK TC", "DejaVu Sans Mono")
"""In the order in which they are asked for a sign."""


@dataclass(frozen=True, slots=True)
class Who:
    name: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Status:
    word: str
    says: str
    tone: str
    """`good`, `bad` or `plain`."""


@dataclass(frozen=True, slots=True)
class Item:
    says: str
    units: str
    unit_price: str
    amount: str


@dataclass(frozen=True, slots=True)
class Line:
    says: str
    note: str
    amount: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Model:
    model: str
    calls: str
    amount: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    title: str
    number: str
    seller: Who
    buyer: Who
    buyer_label: str
    facts: tuple[tuple[str, str], ...]
    headline: Mapping[str, str]
    status: Status | None
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    usage_title: str
    usage_says: str
    usage_fine: int
    models: tuple[Model, ...]
    foot: str
    summary_words: str
    """The document in a sentence, for a reader's list of files."""
    fonts: tuple[str, ...] = field(default=FONTS)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def of(content: Content, *, most_lines: int | None = None) -> Layout:
    """`most_lines` of usage are shown one by one, the dearest first; the others are summed by model."""
    models = tuple(_models(content, most_lines))
    seller, buyer = content["seller"], content["buyer"]
    title = words.title(content)
    return Layout(
        title=title,
        number=content["number"] or "",
        seller=_who(seller),
        buyer=_who(buyer),
        buyer_label="For" if content["kind"] == "statement" else "Billed to",
        facts=_facts(content),
        headline=_headline(content),
        status=_status(content),
        notes=_notes(content),
        sections=tuple(sums.sections(content)),
        usage_title="Usage",
        usage_says=_USAGE_SAYS,
        usage_fine=fine(_amounts(models)),
        models=models,
        foot=f"{seller['name']} · All amounts are in US dollars; digits finer than a cent are grey.",
        summary_words=f"{title} for {buyer['name']}: {money(content['total'])} USD",
    )


_USAGE_SAYS: Final = (
    "Units × unit price is the provider’s price, the mark-up comes on top of it. "
    "Tokens are priced per million."
)


# ── The head ─────────────────────────────────────────────────────────────────────────────────────


def _who(who: Mapping[str, Any]) -> Who:
    lines = [*who.get("address", ())]
    if who.get("tax_id"):
        lines.append(f"Tax ID {who['tax_id']}")
    if who.get("email"):
        lines.append(who["email"])
    return Who(who["name"], tuple(line for line in lines if line))


def _facts(content: Content) -> tuple[tuple[str, str], ...]:
    period, corrects = content["period"], content["corrects"]
    found = [
        ("Number", content["number"]),
        ("Issued" if content["number"] else "As of", day(content["issued_at"])),
        ("Corrects", corrects and f"{corrects['number']} of {day(corrects['issued_at'])}"),
        ("Month", content["month"] and month_name(content["month"])),
        ("Period", period and words.period(period["from"], period["until"])),
        ("Plan", content["plan"].capitalize()),
        ("Your reference", content["buyer"]["reference"]),
        ("Account", content["buyer"]["id"]),
    ]
    return tuple((says, value) for says, value in found if value)


def _headline(content: Content) -> dict[str, str]:
    if content["due"]:
        return {"says": "Total with tax", "amount": dollars(sums.of_cents(content["due"]["total_cents"]))}
    if content["kind"] == "credit_note":
        return {"says": "Credited to you", "amount": dollars(sums.with_tax(content))}
    says = "Charged in this month" if content["number"] else "Charged in this month so far"
    return {"says": says, "amount": dollars(content["total"])}


def _status(content: Content) -> Status | None:
    """As it was when it was issued: what becomes of it later, no document says."""
    if content["kind"] == "credit_note":
        return Status("Nothing to pay", "It was added to your credit", "good")
    if content["purpose"] == "subscription":
        return Status("Paid", "Nothing is left to pay", "good")
    if content["due"]:
        due_at = content["due"]["due_at"]
        return Status("To be paid", f"by {day(due_at)}" if due_at else "", "plain")
    return Status("Nothing to pay", "Taken from your credit", "plain")


def _notes(content: Content) -> tuple[str, ...]:
    if content["corrects"]:
        return (f"Reason: {content['corrects']['reason']}",)
    if content["number"] is None:
        return ("The month is not over: these figures still change. No document has been issued of them.",)
    if content["kind"] == "statement":
        return ("This is a statement of a prepaid account, not a request for payment.",)
    return ()


# ── Usage ────────────────────────────────────────────────────────────────────────────────────────


def _models(content: Content, most_lines: int | None) -> Iterable[Model]:
    """Dearest first; then, each in a line, the models of what is not shown line by line."""
    usage = sorted(content["usage"], key=lambda each: -Decimal(each["amount"]))
    shown, rest = (usage, []) if most_lines is None else (usage[:most_lines], usage[most_lines:])
    by_model: dict[str, list[Mapping[str, Any]]] = {}
    for each in shown:
        by_model.setdefault(each["model"], []).append(each)
    found = [(_sum(lines), _model(name, lines)) for name, lines in by_model.items()]
    found.sort(key=lambda each: (-each[0], each[1].model))
    yield from (model for _, model in found)
    others: dict[str, tuple[int, int, Decimal]] = {}
    for each in (*rest, *content["others"]):
        lines, requests, amount = others.get(each["model"], (0, 0, Decimal(0)))
        more = (lines + each.get("lines", 1), requests + each["requests"], amount + Decimal(each["amount"]))
        others[each["model"]] = more
    for name, (lines, requests, amount) in sorted(others.items()):
        says = f"{lines:,} further line{'' if lines == 1 else 's'}, itemised in the CSV"
        yield Model(name, words.calls(requests), money(amount), (Line(says, "", money(amount), ()),))


def _model(name: str, lines: Sequence[Mapping[str, Any]]) -> Model:
    calls = words.calls(sum(each["requests"] for each in lines))
    return Model(name, calls, money(_sum(lines)), tuple(_line(each) for each in lines))


def _line(line: Mapping[str, Any]) -> Line:
    items = [
        Item(
            words.KINDS.get(item["kind"], item["kind"]),
            f"{item['units']:,}",
            words.unit_price(item),
            "" if item["base"] is None else money(item["base"]),
        )
        for item in line["items"]
    ]
    markup = f"Mark-up of {percent(line['markup'])} %"
    if any(item["base"] is None for item in line["items"]):
        items.append(Item("The provider’s price of these calls", "", "", money(line["base"])))
        markup = "Not charged" if line["kind"] == "free" else f"{markup}, as charged"
    items.append(Item(markup, "", "", money(line["markup_amount"])))
    says = f"{line['provider']} · {line['key_name'] or line['key']}"
    notes = " · ".join([words.calls(line["requests"]), *words.of_line(line)])
    return Line(says, notes, money(line["amount"]), tuple(items))


def _amounts(models: Iterable[Model]) -> Iterable[str]:
    for model in models:
        yield model.amount
        for line in model.lines:
            yield line.amount
            yield from (item.amount for item in line.items)


def _sum(lines: Iterable[Mapping[str, Any]]) -> Decimal:
    return sum((Decimal(each["amount"]) for each in lines), Decimal(0))
