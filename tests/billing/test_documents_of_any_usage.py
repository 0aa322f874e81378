"""Whatever was used, paid, corrected and late: three months close as documents that prove right."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from accounts import keys
from billing import posting, wallets
from billing.core import pricing
from billing.core.money import parse_usd
from billing.core.usage import Usage
from billing.documents import closing, credit_notes, kept, usage_lines
from billing.models import BilledUsage, Document, Posting
from tests.billing import books
from tests.billing.documented import (
    FIRST_OF_JUNE,
    IN_MAY,
    JULY,
    JUNE,
    LARGE,
    MAY,
    USD,
    Books,
    broken,
    nanos,
)

pytestmark = pytest.mark.django_db(transaction=True)

STATED = {
    "input": "2.5",
    "output": "10.123457",
    "cache_read": "0.25",
    "image": "3.3",
    "audio": "40",
    "audio_output": "80.000001",
    "request": "0.000123",
    "tiers": [{"above": 5000, "input": "5", "output": "15"}],
    "windows": [{"from": "16:30", "until": "00:30", "input": "1.25", "tiers": []}],
}
MONTHS = (MAY, JUNE, JULY)
MARKUPS = (Decimal("0"), Decimal("0.03"), Decimal("0.05"), Decimal("0.123457"))


class Chance:
    def __init__(self, acme, seed):
        self.acme, self.random = acme, random.Random(seed)
        self.keys = [acme.key, books.make_key(acme.organization, "another")]
        self.prices = {
            f"sandbox:acme/{name}": books.make_price(f"sandbox:acme/{name}", STATED)
            for name in ("swift", "deep")
        }

    def call(self, month):
        chance = self.random
        counts = {
            name: chance.choice((0, 1, 7, 4999, 60_001))
            for name in ("input", "output", "cache_read", "image")
        }
        usage = Usage(**counts, audio_output=chance.choice((0, 333)), reasoning=chance.choice((0, 13)))
        at = datetime(month.year, month.month, 1, tzinfo=UTC) + timedelta(minutes=chance.randrange(28 * 1440))
        endpoint, price = chance.choice(list(self.prices.items()))
        markup, price = chance.choice(MARKUPS), price.at(at)
        charge = pricing.charge(usage, price, markup)
        said = {"markup": markup, "base_nanos": charge.base_nanos, "charge_nanos": charge.nanos}
        kind = chance.choice(("charged", "charged", "charged", "capped", "free"))
        if kind == "capped":
            held = charge.nanos // 2
            base = min(charge.base_nanos, held)
            said |= {"charge_nanos": held, "base_nanos": base, "loss_nanos": charge.base_nanos - base}
            said |= {"decision": {"capped_at_nanos": held}}
        if kind == "free":
            said |= {"charge_nanos": 0, "base_nanos": 0, "loss_nanos": charge.base_nanos, "status": "failed"}
        model = endpoint.partition(":")[2]
        key = chance.choice(self.keys)
        books.deliver(key, price, usage=usage, at=at, endpoint=endpoint, model=model, **said)

    def correct(self):
        document = self.random.choice(
            list(Document.objects.of(self.acme.organization).exclude(kind="credit_note"))
        )
        left = credit_notes.left_of(document)
        if left > 0:
            credit_notes.issue(document.number, self.random.randint(1, left), reason="by chance")


@pytest.mark.parametrize("seed", [1, 2])
def test_any_three_months_of_usage_close_to_the_nano_dollar(monkeypatch, seed):
    acme = Books(monkeypatch)
    chance = Chance(acme, seed)
    for number, month in enumerate(MONTHS):
        for _ in range(25):
            chance.call(month)
        if number:
            chance.call(MONTHS[number - 1])  # its month is closed already
            acme.at(datetime(2026, month.month, 20, tzinfo=UTC))
            chance.correct()
            wallets.grant("acme", chance.random.randint(1, USD), note="by chance")
        posting.post_generations()
        acme.at(datetime(2026, month.month + 1, 1, 6, tzinfo=UTC))
        assert closing.close_month(month) == 1

    said = [acme.document(month).content for month in MONTHS]
    charged = -sum(
        row.entries.get(account__kind="wallet").nanos for row in Posting.objects.filter(kind="usage")
    )
    assert sum(nanos(each["usage_total"]) for each in said) == charged
    assert parse_usd(said[-1]["closing_balance"]) == books.balance(acme.organization)
    assert all(abs(Decimal(each["rounding"])) <= Decimal(each["requests"] + 9).scaleb(-9) for each in said)
    priced = [line for each in said for line in each["usage"] if line["kind"] != "free"]
    assert all(item["unit_price"] is not None for line in priced for item in line["items"])
    assert {line["tier"] for line in priced} == {0, 1} and {line["window"] for line in priced} == {0, 1}
    assert any(line["used_in"] for line in said[1]["usage"]) and Decimal(said[0]["uncharged"]) < 0
    assert sum(row.requests for row in BilledUsage.objects.of(acme.organization)) == 77
    assert broken() == {}


def test_the_csv_of_a_document_is_the_same_after_a_key_that_it_only_sums_is_renamed(monkeypatch):
    monkeypatch.setattr(usage_lines, "MOST_LISTED", 1)
    acme = Books(monkeypatch)
    acme.use(IN_MAY, LARGE)
    other = books.make_key(acme.organization, "at first")
    books.deliver(other, acme.price, at=IN_MAY)
    posting.post_generations()
    acme.at(FIRST_OF_JUNE)
    acme.close()
    saved = kept.as_csv(acme.document())

    keys.update(other, by="operator", name="renamed")

    assert other.public_id in saved
    assert kept.as_csv(acme.document()) == saved
