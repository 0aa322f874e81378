"""How far the ledger is proven: of each account, what its entries came to up to one posting.

The frequent check adds what is newer to these sums, so it costs the same after years. They are believed for
a day at most: the nightly check adds up every entry, and holds them against it too. A breach stops them,
so that what was not right when it was looked at never becomes a sum.
"""

from __future__ import annotations

from datetime import datetime

from django.db import connection, transaction

_PROVEN_TO = "SELECT coalesce(max(posting_id), 0) FROM billing_provensum"

# Up to the first posting that is still new: who writes a posting with an instant of long ago moves nothing.
# Of before that, none is still under way.
_ADVANCE = """
WITH reached AS (
    SELECT coalesce((SELECT min(id) - 1 FROM billing_posting
                     WHERE id > %(proven)s AND created_at >= %(until)s),
                    (SELECT max(id) FROM billing_posting)) AS posting_id
)
INSERT INTO billing_provensum (account_id, posting_id, nanos)
SELECT entry.account_id, reached.posting_id, sum(entry.nanos)
FROM reached JOIN billing_entry AS entry
  ON entry.posting_id > %(proven)s AND entry.posting_id <= reached.posting_id
GROUP BY entry.account_id, reached.posting_id
ON CONFLICT (account_id) DO UPDATE
SET posting_id = excluded.posting_id, nanos = billing_provensum.nanos + excluded.nanos
"""


def reached() -> int:
    """The id of the posting up to which all accounts are summed; 0 while none is."""
    with connection.cursor() as cursor:
        cursor.execute(_PROVEN_TO)
        return int(cursor.fetchone()[0])


def advance(until: datetime, *, anew: bool = False) -> None:
    """Sum up to the last posting of before `until`, once a check found all right; `anew` from the first."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '10min'")
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('billing_provensum'))")
        if anew:
            cursor.execute("DELETE FROM billing_provensum")
        cursor.execute(_ADVANCE, {"proven": reached(), "until": until})
