"""Posting generations: from what was delivered to what was booked, each exactly once.

A batch is one transaction: generations are claimed (what another process holds is skipped, and so is an
organization whose wallet somebody holds: a slow refund is no reason for others to wait), each
organization gets one posting, the roll-ups grow (hours and days, bills, days of end users), the
generations name their posting. So the gate's *balance - unposted* never changes by it. All of it is sets in
SQL; memory stays flat.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection, transaction

from aggregator.lib import crash
from billing import ledger
from billing.core import chart

BATCH = 5_000
NO_MONEY = 0
"""What a generation without charge or loss names as its posting."""

Place = tuple[int, uuid.UUID]
"""(organization id, generation id): how far a run has come."""

_START: Place = (0, uuid.UUID(int=0))

_CLAIM = """
WITH claimed AS MATERIALIZED (
    SELECT id, organization_id, base_nanos, charge_nanos, loss_nanos
    FROM generations AS generation
    WHERE posting_id IS NULL AND (organization_id, id) > (%s, %s)
      AND EXISTS (SELECT FROM billing_wallet AS wallet
                  WHERE wallet.organization_id = generation.organization_id)
    ORDER BY organization_id, id
    LIMIT %s
    FOR UPDATE OF generation SKIP LOCKED
)
SELECT organization_id, array_agg(id ORDER BY id),
       sum(base_nanos)::bigint, sum(charge_nanos)::bigint, sum(loss_nanos)::bigint
FROM claimed GROUP BY organization_id ORDER BY organization_id
"""

_SUMMED = (
    *("requests", "failed", "aborted", "prompt", "cached", "cache_written", "completion", "reasoning"),
    *("base_nanos", "charge_nanos", "loss_nanos", "saved_nanos"),
)
"""What every span of usage sums."""

_MARK_AND_ROLL_UP = """
WITH posted AS (
    UPDATE generations AS generation
    SET posting_id = CASE WHEN charge_nanos = 0 AND loss_nanos = 0 THEN %(no_money)s
                          ELSE claimed.posting_id END
    FROM unnest(%(ids)s::uuid[], %(postings)s::bigint[]) AS claimed (id, posting_id)
    WHERE generation.id = claimed.id AND generation.id BETWEEN %(first)s AND %(last)s
    RETURNING generation.*,
              CASE WHEN charge_nanos > 0 AND cache_read + cache_write_5m + cache_write_1h > 0
                   THEN coalesce(cache_saved_nanos(price_id, price_window, markup, parts), 0)
                   ELSE 0 END AS saved_nanos
), closed AS (
    SELECT organization_id, (max(month) + interval '1 month')::date AS first_open
    FROM billing_monthclose WHERE organization_id = ANY(%(organizations)s) GROUP BY organization_id
), billed AS (
    INSERT INTO billing_billedusage AS bill
        (organization_id, month, used_in, key_id, model, endpoint, price_id, price_window, price_tier, markup,
         kind, requests, priced_requests, input, cache_read, cache_write_5m, cache_write_1h, image, audio,
         output, reasoning, image_output, audio_output, base_nanos, charge_nanos, loss_nanos)
    SELECT organization_id, greatest(used_in, first_open), used_in, key_id, max(model), endpoint,
           coalesce(price_id, 0), price_window, price_tier, markup, kind, count(*),
           count(*) FILTER (WHERE parts <> '[]'), sum(input), sum(cache_read), sum(cache_write_5m),
           sum(cache_write_1h), sum(image), sum(audio), sum(output), sum(reasoning), sum(image_output),
           sum(audio_output), sum(base_nanos), sum(charge_nanos), sum(loss_nanos)
    FROM posted LEFT JOIN closed USING (organization_id),
         LATERAL (SELECT date_trunc('month', uuid7_time(id) AT TIME ZONE 'UTC')::date AS used_in,
                         CASE WHEN status IN ('failed', 'void') THEN 'free'
                              WHEN loss_nanos > 0
                                   OR (decision ->> 'capped_at_nanos')::bigint = charge_nanos THEN 'capped'
                              ELSE 'charged' END AS kind) AS told
    GROUP BY organization_id, greatest(used_in, first_open), used_in, key_id, endpoint,
             coalesce(price_id, 0), price_window, price_tier, markup, kind
    ON CONFLICT (organization_id, month, used_in, key_id, endpoint, price_id, price_window, price_tier,
                 markup, kind) DO UPDATE SET
        requests = bill.requests + excluded.requests,
        priced_requests = bill.priced_requests + excluded.priced_requests,
        input = bill.input + excluded.input,
        cache_read = bill.cache_read + excluded.cache_read,
        cache_write_5m = bill.cache_write_5m + excluded.cache_write_5m,
        cache_write_1h = bill.cache_write_1h + excluded.cache_write_1h,
        image = bill.image + excluded.image,
        audio = bill.audio + excluded.audio,
        output = bill.output + excluded.output,
        reasoning = bill.reasoning + excluded.reasoning,
        image_output = bill.image_output + excluded.image_output,
        audio_output = bill.audio_output + excluded.audio_output,
        base_nanos = bill.base_nanos + excluded.base_nanos,
        charge_nanos = bill.charge_nanos + excluded.charge_nanos,
        loss_nanos = bill.loss_nanos + excluded.loss_nanos
), of_end_users AS MATERIALIZED (
    SELECT organization_id, whose AS end_user, (uuid7_time(id) AT TIME ZONE 'UTC')::date AS day,
           count(*) AS requests,
           sum(input + cache_read + cache_write_5m + cache_write_1h + image + audio) AS prompt,
           sum(output + reasoning + image_output + audio_output) AS completion,
           sum(charge_nanos) AS charge_nanos
    FROM posted, LATERAL (VALUES (posted.end_user), ('')) AS told (whose) WHERE end_user <> ''
    GROUP BY organization_id, whose, (uuid7_time(id) AT TIME ZONE 'UTC')::date
), end_users_by_month AS (
    INSERT INTO billing_endusermonth AS spent
        (organization_id, end_user, month, requests, prompt, completion, charge_nanos)
    SELECT organization_id, end_user, date_trunc('month', day)::date, sum(requests), sum(prompt),
           sum(completion), sum(charge_nanos)
    FROM of_end_users GROUP BY organization_id, end_user, date_trunc('month', day)::date
    ON CONFLICT (organization_id, end_user, month) DO UPDATE SET
        requests = spent.requests + excluded.requests,
        prompt = spent.prompt + excluded.prompt,
        completion = spent.completion + excluded.completion,
        charge_nanos = spent.charge_nanos + excluded.charge_nanos
), end_users_by_day AS (
    INSERT INTO billing_enduserday AS spent
        (organization_id, end_user, day, requests, prompt, completion, charge_nanos)
    SELECT organization_id, end_user, day, requests, prompt, completion, charge_nanos FROM of_end_users
    ON CONFLICT (organization_id, end_user, day) DO UPDATE SET
        requests = spent.requests + excluded.requests,
        prompt = spent.prompt + excluded.prompt,
        completion = spent.completion + excluded.completion,
        charge_nanos = spent.charge_nanos + excluded.charge_nanos
), hourly AS MATERIALIZED (
    SELECT organization_id, key_id, max(model) AS model, endpoint,
           date_trunc('hour', uuid7_time(id), 'UTC') AS start, count(*) AS requests,
           count(*) FILTER (WHERE status IN ('failed', 'void')) AS failed,
           count(*) FILTER (WHERE status = 'aborted') AS aborted,
           sum(input + cache_read + cache_write_5m + cache_write_1h + image + audio) AS prompt,
           sum(cache_read) AS cached, sum(cache_write_5m + cache_write_1h) AS cache_written,
           sum(output + reasoning + image_output + audio_output) AS completion, sum(reasoning) AS reasoning,
           sum(base_nanos) AS base_nanos, sum(charge_nanos) AS charge_nanos, sum(loss_nanos) AS loss_nanos,
           sum(saved_nanos) AS saved_nanos
    FROM posted GROUP BY organization_id, key_id, endpoint, date_trunc('hour', uuid7_time(id), 'UTC')
), used AS (
    INSERT INTO billing_usagespan AS span (organization_id, key_id, model, endpoint, hours, start, {columns})
    SELECT organization_id, key_id, max(model), endpoint, hours, date_trunc(unit, start, 'UTC'), {sums}
    FROM hourly, (VALUES (1, 'hour'), (24, 'day'), (720, 'month')) AS spans (hours, unit)
    GROUP BY organization_id, key_id, endpoint, hours, date_trunc(unit, start, 'UTC')
    ON CONFLICT (organization_id, hours, start, key_id, endpoint) DO UPDATE SET {grown}
), placed AS (
    INSERT INTO billing_endpointspan AS span (organization_id, model, endpoint, hours, start, {columns})
    SELECT organization_id, max(model), endpoint, hours, date_trunc(unit, start, 'UTC'), {sums}
    FROM hourly, (VALUES (1, 'hour'), (24, 'day'), (720, 'month')) AS spans (hours, unit)
    GROUP BY organization_id, endpoint, hours, date_trunc(unit, start, 'UTC')
    ON CONFLICT (organization_id, hours, start, endpoint) DO UPDATE SET {grown}
), stepped AS MATERIALIZED (
    SELECT organization_id, key_id, date_trunc('hour', uuid7_time(id), 'UTC') AS start, first,
           speed_step(milliseconds) AS step, count(*) AS calls
    FROM posted, LATERAL (VALUES (true, ttft_ms), (false, latency_ms)) AS times (first, milliseconds)
    WHERE status = 'completed' AND milliseconds IS NOT NULL
    GROUP BY organization_id, key_id, date_trunc('hour', uuid7_time(id), 'UTC'), first,
             speed_step(milliseconds)
), timed AS (
    INSERT INTO billing_speedspan AS span (organization_id, key_id, hours, start, first, step, calls)
    SELECT organization_id, whose, hours, date_trunc(unit, start, 'UTC'), first, step, sum(calls)
    FROM stepped, (VALUES (1, 'hour'), (24, 'day')) AS spans (hours, unit),
         LATERAL (VALUES (key_id), (0)) AS keys (whose)
    GROUP BY organization_id, whose, hours, date_trunc(unit, start, 'UTC'), first, step
    ON CONFLICT (organization_id, hours, start, key_id, first, step) DO UPDATE SET
        calls = span.calls + excluded.calls
)
SELECT count(*) FROM posted
""".format(  # noqa: S608 - names of columns
    columns=", ".join(_SUMMED),
    sums=", ".join(f"sum({name})" for name in _SUMMED),
    grown=", ".join(f"{name} = span.{name} + excluded.{name}" for name in _SUMMED),
)


@dataclass(frozen=True, slots=True)
class _Share:
    """One organization's part of a batch."""

    organization_id: int
    ids: list[uuid.UUID]
    base: int
    charge: int
    loss: int

    def draft(self) -> ledger.Draft | None:
        """Its posting, named after its first generation; None when no money moved."""
        entries: dict[tuple[str, int | None], int] = {
            (chart.WALLET, self.organization_id): -self.charge,
            (chart.PROVIDER_COST, None): self.base + self.loss,
            (chart.MARKUP_REVENUE, None): self.charge - self.base,
            (chart.LOSS, None): -self.loss,
        }
        entries = {account: nanos for account, nanos in entries.items() if nanos}
        if not entries:
            return None
        return ledger.Draft("usage", str(self.ids[0]), entries, self.organization_id, "generation")


def post_generations(limit: int | None = None, *, batch: int = BATCH, seconds: int | None = None) -> int:
    """Post what waits, oldest organization first, until nothing waits; how many generations were posted."""
    until = None if seconds is None else time.monotonic() + seconds
    done = 0
    place = _START
    while limit is None or done < limit:
        size = batch if limit is None else min(batch, limit - done)
        claimed, posted, place = _post_batch(size, after=place)
        done += posted
        if claimed < size or (until is not None and time.monotonic() >= until):
            break
    return done


def _post_batch(size: int, *, after: Place) -> tuple[int, int, Place]:
    """Post one batch; how many generations it claimed, how many of them were posted, and where it ended."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_CLAIM, [*after, size])
        claimed = [_Share(*row) for row in cursor.fetchall()]
        if not claimed:
            return 0, 0, after
        mine = ledger.lock_free_wallets({share.organization_id for share in claimed})
        shares = [share for share in claimed if share.organization_id in mine]
        posted = _book(shares) if shares else 0
        crash.point("before_posting_commit")
    crash.point("after_posting_commit")
    count = sum(len(share.ids) for share in claimed)
    return count, posted, (claimed[-1].organization_id, claimed[-1].ids[-1])


def _book(shares: Sequence[_Share]) -> int:
    """The postings of claimed generations, their hours, and what they name; how many they are."""
    drafts = [draft for share in shares if (draft := share.draft()) is not None]
    posting_ids = {
        draft.organization_id: posting_id
        for draft, posting_id in zip(drafts, ledger.post_all(drafts), strict=True)
    }
    ids = [generation_id for share in shares for generation_id in share.ids]
    with connection.cursor() as cursor:
        cursor.execute(
            _MARK_AND_ROLL_UP,
            {
                "no_money": NO_MONEY,
                "ids": ids,
                "organizations": [share.organization_id for share in shares],
                "postings": [
                    posting_ids.get(share.organization_id, NO_MONEY) for share in shares for _ in share.ids
                ],
                "first": min(ids),
                "last": max(ids),
            },
        )
        (marked,) = cursor.fetchone()
    if marked != len(ids):
        raise RuntimeError(f"{marked} of {len(ids)} claimed generations were posted")
    return len(ids)
