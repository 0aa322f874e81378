"""Sums over hours and days, filled from everything that was posted before; from then on posting adds to them."""

from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
from django.db import migrations, models

# As `billing.core.pricing` says it: the same call with every prompt token at full price, less what it came to.
FUNCTIONS = """
CREATE FUNCTION half_even(amount numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (CASE WHEN abs(amount - trunc(amount)) = 0.5 AND mod(trunc(amount), 2) = 0
             THEN trunc(amount) ELSE round(amount) END)::bigint;

CREATE FUNCTION cache_saved_nanos(asked_id bigint, charged_window integer, markup numeric, parts jsonb)
RETURNS bigint LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS $$
DECLARE
    said jsonb;
    part jsonb;
    tier jsonb;
    rate numeric;
    base numeric := 0;
    cached numeric := 0;
    cached_units bigint := 0;
    prompt bigint := 0;
BEGIN
    FOR part IN SELECT * FROM jsonb_array_elements(parts) LOOP
        base := base + (part ->> 2)::numeric;
        IF part ->> 0 IN ('cache_read', 'cache_write_5m', 'cache_write_1h') THEN
            cached := cached + (part ->> 2)::numeric;
            cached_units := cached_units + (part ->> 1)::bigint;
        END IF;
        IF part ->> 0 IN ('cache_read', 'cache_write_5m', 'cache_write_1h') OR part ->> 0 = 'input' THEN
            prompt := prompt + (part ->> 1)::bigint;
        END IF;
    END LOOP;
    SELECT price.stated INTO said FROM billing_price AS price WHERE price.id = asked_id;
    IF cached_units = 0 OR said IS NULL THEN
        RETURN 0;
    END IF;
    IF charged_window > 0 THEN
        said := (said - 'tiers' - 'windows') || (said -> 'windows' -> (charged_window - 1));
    END IF;
    rate := (said ->> 'input')::numeric;
    FOR tier IN SELECT one FROM jsonb_array_elements(coalesce(said -> 'tiers', '[]')) AS one
                WHERE (one ->> 'above')::bigint < prompt ORDER BY (one ->> 'above')::bigint LOOP
        rate := (coalesce(tier ->> 'input', said ->> 'input'))::numeric;
    END LOOP;
    RETURN half_even((base - cached + cached_units * rate * 1000) * (1 + markup))
           - half_even(base * (1 + markup));
END
$$;

CREATE FUNCTION speed_step(milliseconds integer) RETURNS smallint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN floor(3 * ln(greatest(milliseconds, 1)::double precision) / ln(2::double precision) + 1e-9)::smallint;
"""

DROP = """
DROP FUNCTION speed_step(integer);
DROP FUNCTION cache_saved_nanos(bigint, integer, numeric, jsonb);
DROP FUNCTION half_even(numeric);
"""

# Who posts meanwhile waits until the sums hold everything before.
BACKFILL = """
LOCK TABLE billing_hourlyusage IN SHARE ROW EXCLUSIVE MODE;

INSERT INTO billing_usagespan
    (organization_id, key_id, model, endpoint, hours, start, requests, failed, aborted, prompt, cached,
     completion, base_nanos, charge_nanos, saved_nanos)
SELECT organization_id, key_id, max(model), endpoint, hours, date_trunc(unit, uuid7_time(id), 'UTC'),
       count(*), count(*) FILTER (WHERE status IN ('failed', 'void')),
       count(*) FILTER (WHERE status = 'aborted'),
       sum(input + cache_read + cache_write_5m + cache_write_1h), sum(cache_read), sum(output + reasoning),
       sum(base_nanos), sum(charge_nanos),
       sum(CASE WHEN charge_nanos > 0 AND cache_read + cache_write_5m + cache_write_1h > 0
                THEN coalesce(cache_saved_nanos(price_id, price_window, markup, parts), 0) ELSE 0 END)
FROM generations, (VALUES (1, 'hour'), (24, 'day')) AS spans (hours, unit)
WHERE posting_id IS NOT NULL
GROUP BY organization_id, key_id, endpoint, hours, date_trunc(unit, uuid7_time(id), 'UTC');

INSERT INTO billing_speedspan (organization_id, key_id, hours, start, first, step, calls)
SELECT organization_id, key_id, hours, date_trunc(unit, uuid7_time(id), 'UTC'), first,
       speed_step(milliseconds), count(*)
FROM generations, (VALUES (1, 'hour'), (24, 'day')) AS spans (hours, unit),
     LATERAL (VALUES (true, ttft_ms), (false, latency_ms)) AS times (first, milliseconds)
WHERE posting_id IS NOT NULL AND status = 'completed' AND milliseconds IS NOT NULL
GROUP BY organization_id, key_id, hours, date_trunc(unit, uuid7_time(id), 'UTC'), first,
         speed_step(milliseconds);
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("billing", "0015_inquiries"),
    ]

    operations = [
        migrations.RunSQL(FUNCTIONS, DROP),
        migrations.CreateModel(
            name="SpeedSpan",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("hours", models.SmallIntegerField()),
                ("start", models.DateTimeField()),
                ("first", models.BooleanField()),
                ("step", models.SmallIntegerField()),
                ("calls", models.BigIntegerField()),
                (
                    "key",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.key",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "abstract": False,
                "base_manager_name": "unscoped",
                "default_manager_name": "unscoped",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "hours", "start", "key", "first", "step"),
                        name="speed_span_once",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("hours__in", [1, 24])), name="speed_span_hours"
                    ),
                ],
            },
            managers=[
                ("unscoped", django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name="UsageSpan",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("model", models.TextField()),
                ("endpoint", models.TextField()),
                ("hours", models.SmallIntegerField()),
                ("start", models.DateTimeField()),
                ("requests", models.BigIntegerField()),
                ("failed", models.BigIntegerField()),
                ("aborted", models.BigIntegerField()),
                ("prompt", models.BigIntegerField()),
                ("cached", models.BigIntegerField()),
                ("completion", models.BigIntegerField()),
                ("base_nanos", models.BigIntegerField()),
                ("charge_nanos", models.BigIntegerField()),
                ("saved_nanos", models.BigIntegerField()),
                (
                    "key",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.key",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "abstract": False,
                "base_manager_name": "unscoped",
                "default_manager_name": "unscoped",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "hours", "start", "key", "endpoint"), name="usage_span_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("hours__in", [1, 24])), name="usage_span_hours"
                    ),
                ],
            },
            managers=[
                ("unscoped", django.db.models.manager.Manager()),
            ],
        ),
        migrations.RunSQL(BACKFILL, migrations.RunSQL.noop),
    ]
