"""What documents show adds up, and shows every digit; as rows it sums to the total."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

import pytest

from billing.documents import layout, rows, sums, words
from tests.billing import papers

CONTENTS = {
    "statement": papers.content("statement"),
    "invoice": papers.content("invoice"),
    "credit note": papers.content("credit_note"),
    "subscription": papers.subscription(),
    "nothing used": papers.content("statement", lines=0),
    "summed lines": papers.content("statement", lines=3, others=[papers.other(5, "acme/rest")]),
}


@pytest.fixture(params=CONTENTS)
def content(request):
    return CONTENTS[request.param]


def _number(shown: str) -> Decimal:
    return Decimal(shown.replace(",", "").replace("\u2212", "-"))


def test_the_parts_of_a_document_sum_to_its_total(content):
    assert sum(part.amount for part in sums.parts(content)) == Decimal(content["total"])


def test_the_rows_of_its_csv_sum_to_its_total_to_the_last_digit(content):
    read = list(csv.DictReader(io.StringIO(rows.write(content))))

    assert sum(Decimal(row["amount_usd"] or 0) for row in read) == Decimal(content["total"])


def test_the_closing_balance_follows_from_the_rows_above_it():
    shown = next(each for each in sums.sections(CONTENTS["statement"]) if each.title == "Credit")
    amounts = [_number(row.cells[2]) for row in shown.rows]

    assert sum(amounts[:-1]) == amounts[-1]


def test_what_is_not_posted_yet_is_in_the_running_total_and_not_in_the_balance():
    running = papers.content("statement", number=None)
    running["fees"][0]["posted"] = running["rebate"]["posted"] = False
    said = {each.title: [row.cells[-2] for row in each.rows] for each in sums.sections(running)}

    assert "Volume discount" not in said["Credit"] and "Monthly fee" not in said["Credit"]
    assert said["Credit"][-1] == "Balance now"
    assert layout.of(running).title == "Running statement"
    assert "Number" not in dict(layout.of(running).facts)


def test_each_line_shows_units_times_price_and_its_mark_up():
    shown = layout.of(CONTENTS["statement"]).models
    for model in shown:
        assert _number(model.amount) == sum(_number(line.amount) for line in model.lines)
        for line in model.lines:
            assert _number(line.amount) == sum(_number(item.amount) for item in line.items)
            for item in line.items[:-1]:
                assert _number(item.units) * _number(item.unit_price) / 1_000_000 == _number(item.amount)
    assert [_number(model.amount) for model in shown] == sorted(
        (_number(model.amount) for model in shown), reverse=True
    )


def test_beyond_the_most_lines_the_rest_is_summed_by_model_and_nothing_is_lost():
    content = CONTENTS["statement"]
    whole, short = layout.of(content), layout.of(content, most_lines=2)

    assert sum(len(model.lines) for model in short.models) < sum(len(model.lines) for model in whole.models)
    assert sum(_number(each.amount) for each in short.models) == sum(
        _number(each.amount) for each in whole.models
    )
    assert "itemised in the CSV" in short.models[-1].lines[0].says


def test_what_was_free_shows_its_units_and_that_nothing_was_charged():
    free = papers.line(kind="free", amount="0", markup_amount="-0.5", base="0.5")
    for item in free["items"]:
        item |= {"unit_price": None, "base": None}
    line = layout.of(papers.content("statement", usage=[free])).models[0].lines[0]

    assert "free of charge" in line.note
    assert [item.says for item in line.items[-2:]] == ["The provider’s price of these calls", "Not charged"]
    assert sum(_number(item.amount) for item in line.items if item.amount) == _number(line.amount) == 0


@pytest.mark.parametrize("name", ["=1+1", "+cmd|' /C calc'!A0", "@SUM(A1)", "-2"])
def test_a_name_in_the_csv_is_no_formula_and_a_number_stays_one(name):
    written = rows.write(papers.content("statement", usage=[papers.line(key_name=name)]))
    read = list(csv.DictReader(io.StringIO(written)))

    assert read[0]["key_name"] == f"'{name}"
    assert next(row for row in read if row["part"] == "uncharged")["amount_usd"] == "-0.000731042"


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "0.00"),
        ("1234567.5", "1,234,567.50"),
        ("-0.00000123", "\u22120.00000123"),
        ("-12.500", "\u221212.50"),
        ("3", "3.00"),
    ],
)
def test_an_amount_keeps_its_digits(amount, shown):
    assert words.money(amount) == shown


def test_a_rebate_says_how_it_came_about():
    share = papers.content()["rebate"]["detail"][0]

    assert words.rebate(share) == "5 % of usage above $25.00; $50.00 in 1 – 30 November 2026"
    assert words.rebate({"used_in": "2026-10", "usage": "3", "amount": "1"}) == "Usage of October 2026, $3.00"
