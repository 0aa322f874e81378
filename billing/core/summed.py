"""The invariants of roll-ups, as queries that answer a text for every breach: see `invariants`."""

from __future__ import annotations

# All bills of one month of admission together, since what comes late is on a later one. They are held against
# the month's days, and these against their hours: so a look at what is new reads no month of generations.
BILLS_ARE_SUMS = """
WITH summed AS (
    SELECT organization_id, date_trunc('month', start AT TIME ZONE 'UTC')::date AS used_in, key_id, endpoint,
           sum(requests) AS requests, sum(prompt) AS prompt, sum(cached) AS cached,
           sum(cache_written) AS cache_written, sum(completion) AS completion, sum(reasoning) AS reasoning,
           sum(base_nanos) AS base_nanos, sum(charge_nanos) AS charge_nanos, sum(loss_nanos) AS loss_nanos
    FROM billing_usagespan
    WHERE hours = 24 AND start >= date_trunc('month', %(since)s, 'UTC')
    GROUP BY organization_id, date_trunc('month', start AT TIME ZONE 'UTC')::date, key_id, endpoint
), billed AS (
    SELECT organization_id, used_in, key_id, endpoint, sum(requests) AS requests,
           sum(input + cache_read + cache_write_5m + cache_write_1h + image + audio) AS prompt,
           sum(cache_read) AS cached, sum(cache_write_5m + cache_write_1h) AS cache_written,
           sum(output + reasoning + image_output + audio_output) AS completion, sum(reasoning) AS reasoning,
           sum(base_nanos) AS base_nanos, sum(charge_nanos) AS charge_nanos, sum(loss_nanos) AS loss_nanos
    FROM billing_billedusage
    WHERE used_in >= date_trunc('month', %(since)s AT TIME ZONE 'UTC')::date
    GROUP BY organization_id, used_in, key_id, endpoint
)
SELECT 'the bills of ' || to_char(used_in, 'YYYY-MM') || ' of key ' || key_id || ' at '
       || coalesce(nullif(endpoint, ''), 'no endpoint') || ' say ' || coalesce(billed.charge_nanos, 0)
       || ' for ' || coalesce(billed.requests, 0) || ' requests, its days '
       || coalesce(summed.charge_nanos, 0) || ' for ' || coalesce(summed.requests, 0)
FROM summed FULL JOIN billed USING (organization_id, used_in, key_id, endpoint)
WHERE (summed.requests, summed.prompt, summed.cached, summed.cache_written, summed.completion,
       summed.reasoning, summed.base_nanos, summed.charge_nanos, summed.loss_nanos)
      IS DISTINCT FROM
      (billed.requests, billed.prompt, billed.cached, billed.cache_written, billed.completion,
       billed.reasoning, billed.base_nanos, billed.charge_nanos, billed.loss_nanos)
"""

END_USERS_ARE_SUMS = """
WITH summed AS (
    SELECT organization_id, whose AS end_user, (uuid7_time(id) AT TIME ZONE 'UTC')::date AS day,
           count(*) AS requests,
           sum(input + cache_read + cache_write_5m + cache_write_1h + image + audio) AS prompt,
           sum(output + reasoning + image_output + audio_output) AS completion,
           sum(charge_nanos) AS charge_nanos
    FROM generations, LATERAL (VALUES (end_user), ('')) AS told (whose)
    WHERE posting_id IS NOT NULL AND end_user <> ''
      AND id >= uuid7_from(date_trunc('day', greatest(%(since)s, %(horizon)s), 'UTC'))
    GROUP BY organization_id, whose, (uuid7_time(id) AT TIME ZONE 'UTC')::date
), spent AS (
    SELECT * FROM billing_enduserday
    WHERE day >= date_trunc('day', greatest(%(since)s, %(horizon)s) AT TIME ZONE 'UTC')::date
)
SELECT 'an end user of organization ' || organization_id || ' has ' || coalesce(spent.charge_nanos, 0)
       || ' on ' || day || ', the generations say ' || coalesce(summed.charge_nanos, 0)
FROM summed FULL JOIN spent USING (organization_id, end_user, day)
WHERE (summed.requests, summed.prompt, summed.completion, summed.charge_nanos)
      IS DISTINCT FROM (spent.requests, spent.prompt, spent.completion, spent.charge_nanos)
UNION ALL
SELECT 'an end user of organization ' || organization_id || ' has ' || coalesce(spent.charge_nanos, 0)
       || ' in the month of ' || month || ', its days say ' || coalesce(days.charge_nanos, 0)
FROM (SELECT organization_id, end_user, date_trunc('month', day)::date AS month, sum(requests) AS requests,
             sum(prompt) AS prompt, sum(completion) AS completion, sum(charge_nanos) AS charge_nanos
      FROM billing_enduserday WHERE day >= date_trunc('month', %(since)s AT TIME ZONE 'UTC')::date
      GROUP BY organization_id, end_user, date_trunc('month', day)::date) AS days
FULL JOIN (SELECT * FROM billing_endusermonth
           WHERE month >= date_trunc('month', %(since)s AT TIME ZONE 'UTC')::date) AS spent
USING (organization_id, end_user, month)
WHERE (days.requests, days.prompt, days.completion, days.charge_nanos)
      IS DISTINCT FROM (spent.requests, spent.prompt, spent.completion, spent.charge_nanos)
"""

# An hour is held against its generations, a day against its hours: so a look at what is new reads few rows.
SPANS_ARE_SUMS = """
WITH summed AS (
    SELECT organization_id, 1 AS hours, date_trunc('hour', uuid7_time(id), 'UTC') AS start, key_id, endpoint,
           count(*) AS requests, count(*) FILTER (WHERE status IN ('failed', 'void')) AS failed,
           count(*) FILTER (WHERE status = 'aborted') AS aborted,
           sum(input + cache_read + cache_write_5m + cache_write_1h + image + audio) AS prompt,
           sum(cache_read) AS cached, sum(cache_write_5m + cache_write_1h) AS cache_written,
           sum(output + reasoning + image_output + audio_output) AS completion,
           sum(reasoning) AS reasoning, sum(base_nanos) AS base_nanos, sum(charge_nanos) AS charge_nanos,
           sum(loss_nanos) AS loss_nanos,
           sum(CASE WHEN charge_nanos > 0 AND cache_read + cache_write_5m + cache_write_1h > 0
                    THEN coalesce(cache_saved_nanos(price_id, price_window, markup, parts), 0)
                    ELSE 0 END) AS saved_nanos
    FROM generations
    WHERE posting_id IS NOT NULL
      AND id >= uuid7_from(date_trunc('hour', greatest(%(since)s, %(horizon)s), 'UTC'))
    GROUP BY organization_id, date_trunc('hour', uuid7_time(id), 'UTC'), key_id, endpoint
    UNION ALL
    SELECT organization_id, 24, date_trunc('day', start, 'UTC'), key_id, endpoint, sum(requests), sum(failed),
           sum(aborted), sum(prompt), sum(cached), sum(cache_written), sum(completion), sum(reasoning),
           sum(base_nanos), sum(charge_nanos), sum(loss_nanos), sum(saved_nanos)
    FROM billing_usagespan WHERE hours = 1 AND start >= date_trunc('day', %(since)s, 'UTC')
    GROUP BY organization_id, date_trunc('day', start, 'UTC'), key_id, endpoint
    UNION ALL
    SELECT organization_id, 720, date_trunc('month', start, 'UTC'), key_id, endpoint, sum(requests),
           sum(failed), sum(aborted), sum(prompt), sum(cached), sum(cache_written), sum(completion),
           sum(reasoning), sum(base_nanos), sum(charge_nanos), sum(loss_nanos), sum(saved_nanos)
    FROM billing_usagespan WHERE hours = 24 AND start >= date_trunc('month', %(since)s, 'UTC')
    GROUP BY organization_id, date_trunc('month', start, 'UTC'), key_id, endpoint
), span AS (
    SELECT * FROM billing_usagespan
    WHERE hours = 1 AND start >= date_trunc('hour', greatest(%(since)s, %(horizon)s), 'UTC')
       OR hours = 24 AND start >= date_trunc('day', %(since)s, 'UTC')
       OR hours = 720 AND start >= date_trunc('month', %(since)s, 'UTC')
)
SELECT 'the ' || CASE hours WHEN 1 THEN 'hour ' WHEN 24 THEN 'day of ' ELSE 'month of ' END
       || to_char(start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24') || ' of key ' || key_id || ' at '
       || coalesce(nullif(endpoint, ''), 'no endpoint') || ' says ' || coalesce(span.charge_nanos, 0)
       || ' for ' || coalesce(span.requests, 0) || ' requests and ' || coalesce(span.saved_nanos, 0)
       || ' saved, its ' || CASE hours WHEN 1 THEN 'generations ' WHEN 24 THEN 'hours ' ELSE 'days ' END
       || coalesce(summed.charge_nanos, 0) || ' for ' || coalesce(summed.requests, 0) || ' and '
       || coalesce(summed.saved_nanos, 0)
FROM summed FULL JOIN span USING (organization_id, hours, start, key_id, endpoint)
WHERE (summed.requests, summed.failed, summed.aborted, summed.prompt, summed.cached, summed.cache_written,
       summed.completion, summed.reasoning, summed.base_nanos, summed.charge_nanos, summed.loss_nanos,
       summed.saved_nanos)
      IS DISTINCT FROM
      (span.requests, span.failed, span.aborted, span.prompt, span.cached, span.cache_written,
       span.completion, span.reasoning, span.base_nanos, span.charge_nanos, span.loss_nanos,
       span.saved_nanos)
"""

ENDPOINTS_ARE_SUMS = """
WITH summed AS (
    SELECT organization_id, hours, start, endpoint, sum(requests) AS requests, sum(failed) AS failed,
           sum(aborted) AS aborted, sum(prompt) AS prompt, sum(cached) AS cached,
           sum(cache_written) AS cache_written, sum(completion) AS completion, sum(reasoning) AS reasoning,
           sum(base_nanos) AS base_nanos, sum(charge_nanos) AS charge_nanos, sum(loss_nanos) AS loss_nanos,
           sum(saved_nanos) AS saved_nanos
    FROM billing_usagespan
    WHERE hours = 1 AND start >= date_trunc('hour', %(since)s, 'UTC')
       OR hours = 24 AND start >= date_trunc('day', %(since)s, 'UTC')
       OR hours = 720 AND start >= date_trunc('month', %(since)s, 'UTC')
    GROUP BY organization_id, hours, start, endpoint
), span AS (
    SELECT * FROM billing_endpointspan
    WHERE hours = 1 AND start >= date_trunc('hour', %(since)s, 'UTC')
       OR hours = 24 AND start >= date_trunc('day', %(since)s, 'UTC')
       OR hours = 720 AND start >= date_trunc('month', %(since)s, 'UTC')
)
SELECT 'the ' || hours || ' hours from ' || to_char(start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24') || ' at '
       || coalesce(nullif(endpoint, ''), 'no endpoint') || ' of organization ' || organization_id || ' say '
       || coalesce(span.charge_nanos, 0) || ' for ' || coalesce(span.requests, 0) || ' requests, its keys '
       || coalesce(summed.charge_nanos, 0) || ' for ' || coalesce(summed.requests, 0)
FROM summed FULL JOIN span USING (organization_id, hours, start, endpoint)
WHERE (summed.requests, summed.failed, summed.aborted, summed.prompt, summed.cached, summed.cache_written,
       summed.completion, summed.reasoning, summed.base_nanos, summed.charge_nanos, summed.loss_nanos,
       summed.saved_nanos)
      IS DISTINCT FROM
      (span.requests, span.failed, span.aborted, span.prompt, span.cached, span.cache_written,
       span.completion, span.reasoning, span.base_nanos, span.charge_nanos, span.loss_nanos,
       span.saved_nanos)
"""

SPEEDS_ARE_SUMS = """
WITH summed AS (
    SELECT organization_id, 1 AS hours, date_trunc('hour', uuid7_time(id), 'UTC') AS start, key_id, first,
           speed_step(milliseconds) AS step, count(*) AS calls
    FROM generations, LATERAL (VALUES (true, ttft_ms), (false, latency_ms)) AS times (first, milliseconds)
    WHERE posting_id IS NOT NULL
      AND id >= uuid7_from(date_trunc('hour', greatest(%(since)s, %(horizon)s), 'UTC'))
      AND status = 'completed' AND milliseconds IS NOT NULL
    GROUP BY organization_id, date_trunc('hour', uuid7_time(id), 'UTC'), key_id, first,
             speed_step(milliseconds)
    UNION ALL
    SELECT organization_id, 1, start, 0, first, step, sum(calls)
    FROM billing_speedspan
    WHERE hours = 1 AND key_id <> 0 AND start >= date_trunc('hour', greatest(%(since)s, %(horizon)s), 'UTC')
    GROUP BY organization_id, start, first, step
    UNION ALL
    SELECT organization_id, 24, date_trunc('day', start, 'UTC'), key_id, first, step, sum(calls)
    FROM billing_speedspan WHERE hours = 1 AND start >= date_trunc('day', %(since)s, 'UTC')
    GROUP BY organization_id, date_trunc('day', start, 'UTC'), key_id, first, step
), span AS (
    SELECT * FROM billing_speedspan
    WHERE hours = 1 AND start >= date_trunc('hour', greatest(%(since)s, %(horizon)s), 'UTC')
       OR hours = 24 AND start >= date_trunc('day', %(since)s, 'UTC')
)
SELECT 'the ' || hours || ' hours from ' || to_char(start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24') || ' of key '
       || key_id || ' time ' || coalesce(span.calls, 0) || ' calls, there were ' || coalesce(summed.calls, 0)
FROM summed FULL JOIN span USING (organization_id, hours, start, key_id, first, step)
WHERE summed.calls IS DISTINCT FROM span.calls
"""

# Roll-ups outlive their calls: of a month that was dropped they still say what it came to when it was proven.
DROPPED_MONTHS_STAND = """
SELECT 'the month ' || to_char(month, 'YYYY-MM') || ' came to ' || dropped.charge_nanos || ' for '
       || dropped.requests || ' requests when it was dropped, now its sums say '
       || coalesce(sum(span.charge_nanos), 0) || ' for ' || coalesce(sum(span.requests), 0)
FROM billing_droppedmonth AS dropped
LEFT JOIN billing_usagespan AS span
  ON span.hours = 720 AND span.start = dropped.month::timestamp AT TIME ZONE 'UTC'
WHERE %(whole)s
GROUP BY month, dropped.requests, dropped.base_nanos, dropped.charge_nanos, dropped.loss_nanos
HAVING (dropped.requests, dropped.base_nanos, dropped.charge_nanos, dropped.loss_nanos)
       IS DISTINCT FROM (coalesce(sum(span.requests), 0), coalesce(sum(span.base_nanos), 0),
                         coalesce(sum(span.charge_nanos), 0), coalesce(sum(span.loss_nanos), 0))
UNION ALL
SELECT 'generation ' || id || ' is of a month that was dropped' FROM generations_rest
WHERE id < uuid7_from(%(horizon)s)
"""
