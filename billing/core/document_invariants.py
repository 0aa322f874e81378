"""What must hold of documents, as far as PostgreSQL can tell by itself; in the form of `invariants`."""

from __future__ import annotations

from billing.core.invariants import Invariant

# Charges of the calls = the bill = the close = the lines: one figure for each closed month.
_DOCUMENTS_ARE_BILLS = """
WITH looked AS (
    SELECT organization_id, month, charged_nanos FROM billing_monthclose WHERE closed_at >= %(since)s
), billed AS (
    SELECT billed.organization_id, billed.month, sum(charge_nanos) AS nanos
    FROM billing_billedusage AS billed JOIN looked USING (organization_id, month)
    GROUP BY billed.organization_id, billed.month
)
SELECT to_char(looked.month, 'YYYY-MM') || ' of organization ' || looked.organization_id
       || ' was closed with ' || looked.charged_nanos || ', its bill has ' || coalesce(billed.nanos, 0)
       || ', its document ' || coalesce(document.content ->> 'usage_total', 'is missing')
FROM looked
LEFT JOIN billed USING (organization_id, month)
LEFT JOIN billing_document AS document
  ON document.organization_id = looked.organization_id AND document.month = looked.month
 AND document.purpose IN ('month', 'postpaid')
WHERE looked.charged_nanos <> coalesce(billed.nanos, 0)
   OR (document.content ->> 'usage_total')::numeric * 1000000000 <> looked.charged_nanos
   OR (document.content ->> 'total')::numeric * 1000000000 <> document.total_nanos
"""

# A bill's row lies in a closed month, which has a document within a day, or in an open one.
_USAGE_IS_ON_A_DOCUMENT = """
SELECT to_char(billed.month, 'YYYY-MM') || ' of organization ' || billed.organization_id
       || ' bills ' || sum(billed.charge_nanos) || ', its month is '
       || CASE WHEN closed.month IS NULL THEN 'not closed, a later one is'
               ELSE 'closed without a document' END
FROM billing_billedusage AS billed
JOIN (SELECT organization_id, max(month) AS last, max(closed_at) AS closed_at FROM billing_monthclose
      GROUP BY organization_id) AS ended
  ON ended.organization_id = billed.organization_id AND billed.month <= ended.last
LEFT JOIN billing_monthclose AS closed
  ON closed.organization_id = billed.organization_id AND closed.month = billed.month
WHERE (%(whole)s OR ended.closed_at >= %(since)s)
  AND (closed.month IS NULL
       OR closed.closed_at < %(now)s - interval '1 day'
          AND NOT EXISTS (SELECT FROM billing_document AS document
                          WHERE document.organization_id = billed.organization_id
                            AND document.month = billed.month AND document.purpose IN ('month', 'postpaid')))
GROUP BY billed.organization_id, billed.month, closed.month
"""

# What the newest document closes with, and what was booked since for later months, is the balance.
_DOCUMENTS_ARE_BALANCES = """
WITH looked AS (
    SELECT DISTINCT organization_id FROM billing_document
    WHERE purpose IN ('month', 'postpaid') AND (%(whole)s OR issued_at >= %(since)s)
), newest AS (
    SELECT DISTINCT ON (organization_id) organization_id, month,
           (content ->> 'closing_balance')::numeric * 1000000000 AS nanos
    FROM billing_document JOIN looked USING (organization_id)
    WHERE purpose IN ('month', 'postpaid') ORDER BY organization_id, month DESC
), since AS (
    SELECT newest.organization_id, newest.month, newest.nanos,
           coalesce((SELECT sum(entry.nanos) FROM billing_posting AS posting
                     JOIN billing_entry AS entry ON entry.posting_id = posting.id
                     JOIN billing_account AS account ON account.id = entry.account_id
                     WHERE posting.organization_id = newest.organization_id AND posting.kind <> 'usage'
                       AND account.kind = 'wallet'
                       AND CASE WHEN posting.kind IN ('rebate', 'monthly_fee')
                                THEN split_part(posting.source_id, ':', 2)
                                ELSE to_char(posting.created_at AT TIME ZONE 'UTC', 'YYYY-MM')
                           END > to_char(newest.month, 'YYYY-MM')), 0) AS moved,
           coalesce((SELECT sum(charge_nanos) FROM billing_billedusage AS billed
                     WHERE billed.organization_id = newest.organization_id
                       AND billed.month > newest.month), 0) AS used
    FROM newest
)
SELECT 'organization ' || since.organization_id || ' closed ' || to_char(since.month, 'YYYY-MM') || ' with '
       || since.nanos || ', has moved ' || (since.moved - since.used) || ' since, and holds '
       || wallet.balance_nanos
FROM since JOIN billing_wallet AS wallet USING (organization_id)
WHERE since.nanos + since.moved - since.used <> wallet.balance_nanos
UNION ALL
SELECT 'the document ' || number || ' opens with ' || opening || ', the one before closes with ' || closing
FROM (SELECT number, issued_at, content ->> 'opening_balance' AS opening,
             lag(content ->> 'closing_balance') OVER (PARTITION BY organization_id ORDER BY month) AS closing
      FROM billing_document JOIN looked USING (organization_id)
      WHERE purpose IN ('month', 'postpaid')) AS documents
WHERE issued_at >= %(since)s AND coalesce(closing, '0')::numeric <> opening::numeric
"""

# In each series and year: all of them, or those from the one before the first that is new.
_NUMBERS_HAVE_NO_GAP = """
WITH given AS (
    SELECT split_part(number, '-', 1) AS series,
           substring(number FROM '^[A-Z]+-([0-9]{4})-[0-9]+$')::smallint AS year, count(*) AS documents,
           min(substring(number FROM '^[A-Z]+-[0-9]{4}-([0-9]{1,9})$')::bigint) AS lowest,
           max(substring(number FROM '^[A-Z]+-[0-9]{4}-([0-9]{1,9})$')::bigint) AS highest
    FROM billing_document WHERE issued_at >= %(since)s GROUP BY 1, 2
), looked AS (
    SELECT series, year, counted.last, given.documents, given.highest,
           CASE WHEN %(whole)s THEN 1 ELSE greatest(coalesce(given.lowest, counted.last) - 1, 1) END AS first
    FROM given FULL JOIN billing_documentnumber AS counted USING (series, year)
), found AS (
    SELECT looked.*, (
        SELECT count(*) FROM generate_series(first, last) AS n JOIN billing_document
        ON number = series || '-' || year || '-' || lpad(n::text, greatest(6, length(n::text)), '0')
    ) AS there FROM looked
)
SELECT series || '-' || coalesce(year, 0) || ' has ' || there || ' documents from number ' || first || ' to '
       || coalesce(last, 0) || ', which was given last, and the highest is ' || coalesce(highest, last)
FROM found
WHERE last IS NULL OR there <> last - first + 1 OR highest > last
   OR %(whole)s AND documents IS DISTINCT FROM last
"""

# As many credit notes as postings that gave the money, and no document corrected by more than its total.
_CREDIT_NOTES_ARE_POSTINGS = """
WITH given AS (
    SELECT posting.source_id, posting.organization_id,
           sum(entry.nanos) FILTER (WHERE account.kind = 'wallet')
           + coalesce(sum(entry.nanos) FILTER (WHERE account.kind = 'tax'), 0) AS nanos
    FROM billing_posting AS posting
    JOIN billing_entry AS entry ON entry.posting_id = posting.id
    JOIN billing_account AS account ON account.id = entry.account_id
    WHERE posting.kind = 'credit_note' AND posting.created_at >= %(since)s
    GROUP BY posting.id
), noted AS (
    SELECT id::text AS source_id, organization_id, number, total_nanos AS nanos
    FROM billing_document WHERE kind = 'credit_note' AND issued_at >= %(since)s
)
SELECT 'the credit note ' || coalesce(noted.number, source_id) || ' gives ' || coalesce(noted.nanos, 0)
       || ', the ledger ' || coalesce(given.nanos, 0)
FROM given FULL JOIN noted USING (source_id, organization_id)
WHERE given.nanos IS DISTINCT FROM noted.nanos
UNION ALL
SELECT 'the document ' || corrected.number || ' over ' || corrected.total_nanos || ' is corrected by '
       || sum(note.total_nanos)
FROM billing_document AS note JOIN billing_document AS corrected ON corrected.id = note.corrects_id
WHERE note.issued_at >= %(since)s OR %(whole)s
GROUP BY corrected.id HAVING sum(note.total_nanos) > corrected.total_nanos
"""

IN_SQL = (
    Invariant(
        "documents_are_bills",
        "a closed month is one figure: its calls' charges, its close, its document",
        _DOCUMENTS_ARE_BILLS,
    ),
    Invariant(
        "usage_is_on_a_document",
        "what is billed is in an open month or on one document",
        _USAGE_IS_ON_A_DOCUMENT,
    ),
    Invariant(
        "documents_are_balances",
        "a document opens with what the one before closed with, and the last leads to the balance",
        _DOCUMENTS_ARE_BALANCES,
    ),
    Invariant("numbers_have_no_gap", "documents are numbered without a gap", _NUMBERS_HAVE_NO_GAP),
    Invariant(
        "credit_notes_are_postings",
        "a credit note gives what its posting gave, and no more than its document's total",
        _CREDIT_NOTES_ARE_POSTINGS,
    ),
)
