"""Numbers of documents, looked at again: a gap in what is new is found at once, any gap at night."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from aggregator.lib import clock
from billing import reconcile
from billing.documents import numbers
from billing.models import Document
from tests.billing import books

pytestmark = pytest.mark.django_db


def test_numbers_are_followed_on_from_the_last_of_before_and_at_night_from_the_first(monkeypatch):
    acme, now = books.make_organization(usd="0"), datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: now)
    since = now - timedelta(hours=3)

    def issue(kind, at, *but):
        """Documents of these instants, with the next numbers; those at the places `but` are not written."""
        with transaction.atomic():
            rows = [
                Document(
                    organization=acme,
                    kind=kind,
                    purpose="month",
                    number=numbers.take(kind, each),
                    content={},
                    total_nanos=0,
                    issued_at=each,
                )
                for each in at
            ]
        Document.unscoped.bulk_create(row for place, row in enumerate(rows) if place not in but)

    def gaps(since=None):
        return next(each.breaches for each in reconcile.check(since) if each.name == "numbers_have_no_gap")

    long_ago, lately, at_last = now - timedelta(days=2), now - timedelta(seconds=30), now
    issue("statement", [long_ago] * 3)
    issue("invoice", [long_ago, lately, lately])
    issue("statement", [lately, long_ago, lately, at_last])
    assert (gaps(since), gaps()) == (0, 0)
    issue("invoice", [at_last])  # of the new year, the first in its series
    assert (gaps(since), gaps()) == (0, 0)

    issue("invoice", [lately] * 2, 0)
    assert (gaps(since), gaps()) == (1, 1)
    issue("credit_note", [long_ago], 0)
    assert (gaps(since), gaps()) == (2, 2), "the last that was given is not there"
    issue("statement", [long_ago - timedelta(days=365)] * 4, 1)
    assert (gaps(since), gaps()) == (2, 3), "what lies before is found at night"
