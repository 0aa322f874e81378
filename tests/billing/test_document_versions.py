"""Documents that were issued when less was said are what their rows made of them then."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from billing.documents import recompute
from tests.billing.documented import FIRST_OF_JUNE, IN_MAY, Books

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def acme(monkeypatch):
    made = Books(monkeypatch)
    made.use(IN_MAY)
    made.at(FIRST_OF_JUNE)
    made.close()
    return made


def test_a_document_from_before_there_were_versions_is_put_together_as_it_was(acme):
    assert acme.document().content["version"] == 2

    def say(what):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("ALTER TABLE billing_document DISABLE TRIGGER USER")
            cursor.execute(f"UPDATE billing_document SET content = {what}")
            cursor.execute("ALTER TABLE billing_document ENABLE TRIGGER USER")
        return recompute.difference(acme.document())

    assert say("content - 'version'") is None
    assert b"version" not in recompute.again(acme.document())
    assert "its version is 3" in say("content || '{\"version\": 3}'")
    assert "version" in say("content || '{\"version\": 1}'")
