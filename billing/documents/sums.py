"""The tables of a document beside its usage: what adds up to the total, and how. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from billing.documents import words
from billing.documents.words import day, money

Content = Mapping[str, Any]
"""`billing.documents` has its shape."""


@dataclass(frozen=True, slots=True)
class Column:
    says: str
    amount: bool = False
    figure: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    cells: tuple[Any, ...]
    """A text, or what it says with a note: `{"says", "note"}`."""
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    fine: int
    """How many digits behind the cents the longest amount of the table has."""


@dataclass(frozen=True, slots=True)
class Part:
    kind: str
    """`usage`, `subscription`, `fee`, `rebate` or `credit`."""
    says: str
    note: str
    amount: Decimal
    posted: bool = True
    """Whether the balance has it already: of the running month, fee and rebate are still to come."""


_AMOUNT: Final = Column("USD", amount=True, figure=True)
_MOVEMENTS: Final = ("credits", "refunds", "disputes", "expired")


def parts(content: Content) -> list[Part]:
    """The summands of the total: their sum is the total, to the last digit."""
    if content["kind"] == "credit_note":
        corrected = content["corrects"]["number"]
        return [Part("credit", f"Correction of {corrected}", "", Decimal(content["total"]))]
    if content["purpose"] == "subscription":
        lines = content["subscription"]
        return [Part("subscription", each["says"], "", Decimal(each["amount"])) for each in lines]
    late = content["late"]
    note = ""
    if late["requests"]:
        calls = words.calls(late["requests"])
        note = f"{money(late['amount'])} of it for {calls} of earlier months, booked late"
    says = f"Usage, {words.calls(content['requests'])}"
    found = [Part("usage", says, note, Decimal(content["usage_total"]))]
    for fee in content["fees"]:
        found.append(Part("fee", "Monthly fee", fee["says"], Decimal(fee["amount"]), fee["posted"]))
    rebate = content["rebate"]
    if rebate:
        note = "" if rebate["posted"] else "As far as it is known now"
        found.append(Part("rebate", "Volume discount", note, -Decimal(rebate["amount"]), rebate["posted"]))
    return found


def sections(content: Content) -> Iterable[Section]:
    yield _summary(content)
    if content["opening_balance"] is not None:
        yield _balance(content)
    if content["purpose"] != "subscription" and content["subscription"]:
        yield _paid_for_plans(content)
    if content["rebate"] and content["rebate"]["detail"]:
        detail = content["rebate"]["detail"]
        rows = [Row((words.rebate(each), money(each["amount"]))) for each in detail]
        yield _section("How the volume discount came about", rows)
    if content["usage"]:
        yield _arithmetic(content)


def of_cents(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)


def with_tax(content: Content) -> Decimal:
    return sum((Decimal(each["amount"]) for each in content["tax"]), Decimal(content["total"]))


def fine(amounts: Iterable[str]) -> int:
    """How many digits behind the cents the longest of these amounts has."""
    return max((len(each.rpartition(".")[2]) - 2 for each in amounts if each), default=0)


def _summary(content: Content) -> Section:
    """What adds up to the total; of what is asked for or given back, on to the sum with tax."""
    rows = [Row((_noted(each.says, each.note), money(each.amount))) for each in parts(content)]
    rows.append(Row(("Total", money(content["total"])), strong=True))
    due = content["due"]
    if due:
        carried = Decimal(due["carried"])
        if carried:
            note = "What earlier months left over, and parts of cents, less credit that there was"
            rows.append(Row((_noted("Carried over", note), money(carried))))
        rows.append(Row(("Tax", money(of_cents(due["tax_cents"])))))
        rows.append(Row(("Total with tax", money(of_cents(due["total_cents"]))), strong=True))
    elif content["kind"] == "credit_note":
        rows += [Row((each["says"], money(each["amount"]))) for each in content["tax"]]
        rows.append(Row(("Added to your credit", money(with_tax(content))), strong=True))
    return _section("Summary", rows)


def _balance(content: Content) -> Section:
    """Of a month: what there was, what came and went, what was left."""
    rows = [Row(("", "Opening balance", money(content["opening_balance"])))]
    moved = [each for name in _MOVEMENTS for each in content[name]]
    for each in sorted(moved, key=lambda each: str(each["at"])):
        rows.append(Row((day(each["at"]), _noted(each["says"], words.movement(each)), money(each["amount"]))))
    booked = (part for part in parts(content) if part.posted)
    rows += [Row(("", part.says, money(-part.amount))) for part in booked]
    last = "Closing balance" if content["number"] else "Balance now"
    rows.append(Row(("", last, money(content["closing_balance"])), strong=True))
    columns = (Column("Date"), Column("What"), _AMOUNT)
    return Section("Credit", columns, tuple(rows), fine(row.cells[2] for row in rows))


def _paid_for_plans(content: Content) -> Section:
    rows = [
        Row((day(each["at"]), _noted(each["says"], words.movement(each)), money(each["amount"])))
        for each in content["subscription"]
    ]
    columns = (Column("Date"), Column("On invoices of its own"), _AMOUNT)
    return Section("Paid for the plan", columns, tuple(rows), fine(row.cells[2] for row in rows))


def _arithmetic(content: Content) -> Section:
    """How the lines of usage become what was booked for it."""
    count = len(content["usage"]) + sum(each["lines"] for each in content["others"])
    lines = sum((Decimal(each["amount"]) for each in (*content["usage"], *content["others"])), Decimal(0))
    rows = [
        Row((f"{count:,} line{'' if count == 1 else 's'} of usage", money(lines))),
        Row((_noted("Not charged", "More than the calls had reserved"), money(content["uncharged"]))),
        Row(
            (
                _noted("Rounding", "Each call is rounded once, to a billionth"),
                money(content["rounding"]),
            )
        ),
        Row(("Usage", money(content["usage_total"])), strong=True),
    ]
    return _section("From the lines to the total", rows)


def _section(title: str, rows: Sequence[Row]) -> Section:
    return Section(title, (Column("What"), _AMOUNT), tuple(rows), fine(row.cells[1] for row in rows))


def _noted(says: str, note: str) -> Any:
    return {"says": says, "note": note} if note else says
