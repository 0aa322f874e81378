"""The invariants of money that PostgreSQL can tell by itself: a name, a sentence, and a query.

A query answers one text for every breach. `%(since)s` is when the look begins: what was posted, or
admitted, before it is left to the nightly look at everything. Up to the posting `%(proven)s` accounts are
summed already (`billing.proven`), but for a look at everything. Generations of before `%(horizon)s` are
dropped (`billing.retention`): what was made of them is held against what was recorded when they were proven.
"""

from __future__ import annotations

from dataclasses import dataclass

from billing.core import summed


@dataclass(frozen=True, slots=True)
class Invariant:
    name: str
    says: str
    query: str


PROVEN_IS_PROVEN = "proven_is_proven"

_POSTINGS_BALANCE = """
SELECT 'posting ' || posting.id || ' sums to ' || coalesce(sum(entry.nanos)::text, 'nothing: it has no entry')
FROM billing_posting AS posting LEFT JOIN billing_entry AS entry ON entry.posting_id = posting.id
WHERE posting.created_at >= %(since)s
GROUP BY posting.id HAVING coalesce(sum(entry.nanos), 1) <> 0
"""

_LEDGER_IS_ZERO = """
SELECT 'all entries sum to ' || sum(nanos)
FROM (SELECT nanos FROM billing_provensum WHERE NOT %(whole)s
      UNION ALL SELECT nanos FROM billing_entry WHERE %(whole)s OR posting_id > %(proven)s) AS part
HAVING sum(nanos) <> 0
"""

_POSTINGS_ARE_LAWFUL = """
SELECT 'entry ' || entry.id || ' of a ' || posting.kind || ' posting puts ' || entry.nanos
       || ' on ' || account.kind
FROM billing_posting AS posting
JOIN billing_entry AS entry ON entry.posting_id = posting.id
JOIN billing_account AS account ON account.id = entry.account_id
WHERE posting.created_at >= %(since)s AND NOT EXISTS (
    SELECT FROM unnest(%(kinds)s::text[], %(accounts)s::text[], %(signs)s::int[]) AS may (kind, account, sign)
    WHERE may.kind = posting.kind AND may.account = account.kind AND may.sign = sign(entry.nanos)
) OR posting.created_at >= %(since)s AND (account.organization_id IS NOT NULL)
     AND account.organization_id IS DISTINCT FROM posting.organization_id
"""

_BALANCES_ARE_SUMS = """
WITH part AS (
    SELECT account_id, nanos FROM billing_provensum WHERE NOT %(whole)s
    UNION ALL
    SELECT account_id, sum(nanos) FROM billing_entry WHERE %(whole)s OR posting_id > %(proven)s
    GROUP BY account_id
), summed AS (
    SELECT account.organization_id, sum(part.nanos) AS nanos
    FROM part JOIN billing_account AS account ON account.id = part.account_id
    WHERE account.kind = 'wallet'
    GROUP BY account.organization_id
)
SELECT 'the wallet of organization ' || coalesce(wallet.organization_id, summed.organization_id)
       || ' says ' || coalesce(wallet.balance_nanos::text, 'nothing')
       || ', its entries ' || coalesce(summed.nanos::text, 'nothing')
FROM billing_wallet AS wallet FULL JOIN summed USING (organization_id)
WHERE wallet.organization_id IS NULL OR wallet.balance_nanos <> coalesce(summed.nanos, 0)
"""

_PROVEN_IS_PROVEN = """
WITH summed AS (
    SELECT account_id, sum(nanos) AS nanos FROM billing_entry
    WHERE %(whole)s AND posting_id <= (SELECT max(posting_id) FROM billing_provensum)
    GROUP BY account_id
)
SELECT 'account ' || account_id || ' was proven at ' || coalesce(proven.nanos::text, 'nothing')
       || ', its entries up to there come to ' || coalesce(summed.nanos::text, 'nothing')
FROM billing_provensum AS proven FULL JOIN summed USING (account_id)
WHERE %(whole)s AND proven.nanos IS DISTINCT FROM summed.nanos
"""

_LOTS_ARE_BALANCES = """
WITH moved AS (
    SELECT DISTINCT organization_id FROM billing_posting WHERE created_at >= %(since)s
)
SELECT 'the credit of organization ' || wallet.organization_id || ' comes to '
       || coalesce(sum(lot.remaining_nanos), 0) || ', its balance is ' || wallet.balance_nanos
FROM billing_wallet AS wallet
LEFT JOIN billing_creditlot AS lot
  ON lot.organization_id = wallet.organization_id AND lot.remaining_nanos > 0
WHERE %(whole)s OR wallet.organization_id IN (SELECT organization_id FROM moved)
GROUP BY wallet.organization_id
HAVING coalesce(sum(lot.remaining_nanos), 0) <> greatest(wallet.balance_nanos, 0)
"""

_NOBODY_OWES_MORE_THAN_AGREED = """
WITH limits AS (
    SELECT wallet.organization_id, wallet.balance_nanos, greatest(wallet.credit_limit_nanos, coalesce(
        (SELECT max(terms.credit_limit_nanos) FROM billing_agreedterms AS terms
         WHERE terms.organization_id = wallet.organization_id), 0)) AS most
    FROM billing_wallet AS wallet WHERE wallet.balance_nanos < -wallet.credit_limit_nanos
), history AS (
    SELECT limits.organization_id, posting.id, posting.kind, entry.nanos,
           sum(entry.nanos) OVER (PARTITION BY limits.organization_id ORDER BY posting.id) >= -limits.most
               AS within
    FROM limits
    JOIN billing_account AS account
      ON account.organization_id = limits.organization_id AND account.kind = 'wallet'
    JOIN billing_entry AS entry ON entry.account_id = account.id
    JOIN billing_posting AS posting ON posting.id = entry.posting_id
    WHERE limits.balance_nanos < -limits.most
), since AS (
    SELECT organization_id, coalesce(max(id) FILTER (WHERE within), 0) AS posting_id
    FROM history GROUP BY organization_id
)
SELECT 'organization ' || limits.organization_id || ' owes ' || -limits.balance_nanos || ', agreed are '
       || limits.most || ', and taken back was ' || coalesce(-sum(history.nanos), 0)
FROM limits
JOIN since ON since.organization_id = limits.organization_id
LEFT JOIN history ON history.organization_id = limits.organization_id AND history.id > since.posting_id
     AND history.nanos < 0 AND history.kind <> 'usage'
WHERE limits.balance_nanos < -limits.most
GROUP BY limits.organization_id, limits.balance_nanos, limits.most
HAVING -limits.balance_nanos > limits.most + coalesce(-sum(history.nanos), 0)
"""

_POSTINGS_ARE_GENERATIONS = """
WITH recent AS (
    SELECT id, organization_id, CASE WHEN source_id ~ '^[0-9a-f-]{36}$' THEN source_id::uuid END AS first_id
    FROM billing_posting WHERE kind = 'usage' AND created_at >= %(since)s
), booked AS (
    SELECT recent.id AS posting_id, recent.organization_id, recent.first_id,
           -coalesce(sum(entry.nanos) FILTER (WHERE account.kind = 'wallet'), 0) AS charge,
           coalesce(sum(entry.nanos) FILTER (WHERE account.kind = 'provider_cost'), 0) AS cost,
           coalesce(sum(entry.nanos) FILTER (WHERE account.kind = 'markup_revenue'), 0) AS markup,
           -coalesce(sum(entry.nanos) FILTER (WHERE account.kind = 'loss'), 0) AS loss
    FROM recent
    LEFT JOIN billing_entry AS entry ON entry.posting_id = recent.id
    LEFT JOIN billing_account AS account ON account.id = entry.account_id
    GROUP BY recent.id, recent.organization_id, recent.first_id
), delivered AS (
    SELECT posting_id, organization_id, sum(charge_nanos) AS charge, sum(base_nanos + loss_nanos) AS cost,
           sum(charge_nanos - base_nanos) AS markup, sum(loss_nanos) AS loss
    FROM generations
    WHERE posting_id > 0
      AND id >= least((SELECT first_id FROM recent ORDER BY first_id LIMIT 1), uuid7_from(%(since)s))
    GROUP BY posting_id, organization_id
)
SELECT 'posting ' || booked.posting_id || ' books ' || booked.charge || ' charged, ' || booked.cost
       || ' cost, ' || booked.loss || ' lost; its generations say ' || coalesce(delivered.charge, 0) || ', '
       || coalesce(delivered.cost, 0) || ', ' || coalesce(delivered.loss, 0)
FROM booked LEFT JOIN delivered USING (posting_id, organization_id)
WHERE NOT coalesce(booked.first_id < uuid7_from(%(horizon)s), false)
  AND (booked.charge, booked.cost, booked.markup, booked.loss)
      IS DISTINCT FROM (delivered.charge, delivered.cost, delivered.markup, delivered.loss)
UNION ALL
SELECT 'generations of organization ' || delivered.organization_id || ' name posting '
       || delivered.posting_id || ', which is not a usage posting of theirs'
FROM delivered
WHERE NOT EXISTS (SELECT FROM billing_posting AS posting
                  WHERE posting.id = delivered.posting_id AND posting.kind = 'usage'
                    AND posting.organization_id = delivered.organization_id)
"""

_FREE_HAS_NO_POSTING = """
SELECT 'generation ' || id || ' moved ' || charge_nanos || ' and lost ' || loss_nanos
       || ', but names posting ' || posting_id
FROM generations
WHERE id >= uuid7_from(%(since)s) AND (posting_id = 0) <> (charge_nanos = 0 AND loss_nanos = 0)
"""

_GENERATIONS_HAVE_A_WALLET = """
SELECT count(*) || ' generations of organization ' || organization_id || ' have no wallet'
FROM generations AS generation
WHERE id >= uuid7_from(%(since)s)
  AND NOT EXISTS (SELECT FROM billing_wallet AS wallet
                  WHERE wallet.organization_id = generation.organization_id)
GROUP BY organization_id
"""

_NOTHING_WAITS = """
SELECT 'generation ' || id || ' ended at ' || ended_at || ' and is not posted'
FROM generations WHERE posting_id IS NULL AND ended_at < %(now)s - interval '15 minutes'
"""

_SPOOLS_ARE_HEARD_OF = """
SELECT 'spool ' || id || ' of process ' || pid || ' on ' || host || ' was last heard of at ' || seen_at
       || ': start a gateway beside its folder, or abandon_spool'
FROM spools WHERE seen_at < %(now)s - interval '1 hour'
"""

_GUARDS_STAND = """
SELECT 'the trigger ' || guard || ' of ' || guarded || ' is missing or switched off'
FROM unnest(
    ARRAY['billing_posting', 'billing_entry', 'billing_price', 'billing_plan', 'billing_agreedterms',
          'billing_monthclose', 'billing_creditlot', 'billing_posting', 'billing_entry', 'generations',
          'generations', 'billing_document'],
    ARRAY['append_only', 'append_only', 'append_only', 'append_only', 'append_only',
          'append_only', 'only_burns', 'balanced', 'balanced', 'no_delete',
          'posted_once', 'issued_once']) AS expected (guarded, guard)
WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = guarded::regclass AND tgenabled IN ('O', 'A')
                  AND starts_with(tgname, 'pgtrigger_' || guard))
UNION ALL
SELECT 'the trigger ' || tgname || ' of ' || tgrelid::regclass || ' is switched off'
FROM pg_trigger JOIN pg_inherits ON inhrelid = tgrelid
WHERE inhparent = 'generations'::regclass AND tgenabled = 'D'
"""

_MONTHS_ARE_MADE = """
SELECT 'there is no partition of generations for ' || to_char(month, 'YYYY-MM')
FROM generate_series(date_trunc('month', %(now)s AT TIME ZONE 'UTC'),
                     date_trunc('month', %(now)s AT TIME ZONE 'UTC') + interval '1 month',
                     interval '1 month') AS month
WHERE to_regclass('generations_' || to_char(month, 'YYYY_MM')) IS NULL
"""

IN_SQL = (
    Invariant("postings_balance", "the entries of every posting sum to zero", _POSTINGS_BALANCE),
    Invariant("ledger_is_zero", "all entries together sum to zero", _LEDGER_IS_ZERO),
    Invariant("postings_are_lawful", "every entry is one that its kind may make", _POSTINGS_ARE_LAWFUL),
    Invariant("balances_are_sums", "every wallet's balance is the sum of its entries", _BALANCES_ARE_SUMS),
    Invariant(
        PROVEN_IS_PROVEN, "what was proven of an account is the sum of its entries then", _PROVEN_IS_PROVEN
    ),
    Invariant("lots_are_balances", "what is left of all credit is the balance", _LOTS_ARE_BALANCES),
    Invariant(
        "nobody_owes_more_than_agreed",
        "below its limit a wallet is by what was taken back, not by calls",
        _NOBODY_OWES_MORE_THAN_AGREED,
    ),
    Invariant(
        "postings_are_generations",
        "every usage posting books what its generations say",
        _POSTINGS_ARE_GENERATIONS,
    ),
    Invariant("free_has_no_posting", "a posting is named only where money moved", _FREE_HAS_NO_POSTING),
    Invariant("bills_are_sums", "every posted generation is on one month's bill", summed.BILLS_ARE_SUMS),
    Invariant(
        "end_users_are_sums", "what end users spent is the sum of their calls", summed.END_USERS_ARE_SUMS
    ),
    Invariant(
        "spans_are_sums",
        "what pages sum up is the sum of posted generations: hours of them, days of hours, months of days",
        summed.SPANS_ARE_SUMS,
    ),
    Invariant("endpoints_are_sums", "what all keys used is the sum of each key's", summed.ENDPOINTS_ARE_SUMS),
    Invariant(
        "speeds_are_sums", "how long calls took is counted of every completed one", summed.SPEEDS_ARE_SUMS
    ),
    Invariant(
        "dropped_months_stand", "sums of dropped months are what was proven", summed.DROPPED_MONTHS_STAND
    ),
    Invariant("generations_have_a_wallet", "every generation has a wallet", _GENERATIONS_HAVE_A_WALLET),
    Invariant("nothing_waits", "what ended 15 minutes ago is posted", _NOTHING_WAITS),
    Invariant("spools_are_heard_of", "the process of every open spool lives", _SPOOLS_ARE_HEARD_OF),
    Invariant("guards_stand", "the triggers that guard the ledger are there and on", _GUARDS_STAND),
    Invariant("months_are_made", "this month and the next have their partition", _MONTHS_ARE_MADE),
)
