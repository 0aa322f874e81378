"""What tests of documents share: an organization whose calls are priced as the gateway does, on a clock."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from aggregator.lib import clock
from billing import months, plans, posting, reconcile
from billing.core.usage import Usage
from billing.documents import closing, proofs
from billing.models import Document
from tests.billing import books

USD = 10**9
MAY, JUNE, JULY = date(2026, 5, 1), date(2026, 6, 1), date(2026, 7, 1)
IN_MAY, IN_JUNE = datetime(2026, 5, 7, 12, tzinfo=UTC), datetime(2026, 6, 9, 12, tzinfo=UTC)
FIRST_OF_JUNE, FIRST_OF_JULY = datetime(2026, 6, 1, 6, tzinfo=UTC), datetime(2026, 7, 1, 6, tzinfo=UTC)
LARGE = Usage(input=100_000_000, output=100_000_000)
"""$1,000 to a provider at the prices of these tests, and $1,030 with the mark-up."""


class Books:
    """An organization on Pro, whose calls are priced as the gateway does."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.at(datetime(2026, 5, 1, tzinfo=UTC))
        self.organization = books.make_organization(usd="5000")
        self.key = books.make_key(self.organization)
        self.price = books.make_price(stated={**books.STATED, "cache_read": "0.123456", "request": "0.0001"})
        plans.set_plan("acme", "pro")

    def at(self, moment):
        self.monkeypatch.setattr(clock, "now", lambda: moment)
        months.make_coming()

    def use(self, at, usage=books.USAGE, **columns):
        made = books.deliver(self.key, self.price, usage=usage, at=at, **columns)
        posting.post_generations()
        return made

    def close(self, month=MAY):
        return closing.close_month(month)

    def document(self, month=MAY):
        return Document.objects.of(self.organization).get(month=month, corrects=None)

    def balance(self):
        return books.balance(self.organization)


def nanos(text):
    return int(Decimal(text) * USD)


def broken():
    """Every invariant that does not hold, and every document that is not the same again."""
    found = [*reconcile.check(), proofs.check()]
    return {each.name: each.examples for each in found if not each.holds and each.name != "gate_agrees"}
