"""Numbers of documents: one after the other in each series and year, none left out."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import connection

from billing.models import Document

SERIES = {
    Document.Kind.STATEMENT: "ST",
    Document.Kind.INVOICE: "IN",
    Document.Kind.CREDIT_NOTE: "CN",
}


def take(kind: str, at: datetime) -> str:
    """The next number. The series stays locked until the transaction ends, and is as before if it fails."""
    series, year = SERIES[Document.Kind(kind)], at.astimezone(UTC).year
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_documentnumber AS given (series, year, last) VALUES (%s, %s, 1)"
            " ON CONFLICT (series, year) DO UPDATE SET last = given.last + 1 RETURNING last",
            [series, year],
        )
        (last,) = cursor.fetchone()
    return f"{series}-{year}-{last:06d}"
