from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models

import aggregator.lib.clock

CREATE_TABLE = """
CREATE FUNCTION uuid7_time(id uuid) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN timestamptz 'epoch'
       + ('x' || substr(translate(id::text, '-', ''), 1, 12))::bit(48)::bigint * interval '1 millisecond';

-- The first UUIDv7 of an instant: 48 bits of Unix milliseconds, the rest zero.
CREATE FUNCTION uuid7_from(instant timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (lpad(to_hex((extract(epoch FROM instant) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;

CREATE TABLE generations (
    id uuid PRIMARY KEY,
    organization_id bigint NOT NULL,
    key_id bigint NOT NULL,
    spool uuid NOT NULL,
    posting_id bigint,
    status text NOT NULL,
    model_asked text NOT NULL DEFAULT '',
    model text NOT NULL DEFAULT '',
    endpoint text NOT NULL DEFAULT '',
    preference text NOT NULL DEFAULT '',
    streamed boolean NOT NULL DEFAULT false,
    finish_reason text NOT NULL DEFAULT '',
    native_finish_reason text NOT NULL DEFAULT '',
    estimated boolean NOT NULL DEFAULT false,
    input integer NOT NULL DEFAULT 0,
    cache_read integer NOT NULL DEFAULT 0,
    cache_write_5m integer NOT NULL DEFAULT 0,
    cache_write_1h integer NOT NULL DEFAULT 0,
    output integer NOT NULL DEFAULT 0,
    reasoning integer NOT NULL DEFAULT 0,
    price_id bigint,
    markup numeric(9, 6) NOT NULL DEFAULT 0,
    parts jsonb NOT NULL DEFAULT '[]',
    base_nanos bigint NOT NULL DEFAULT 0,
    charge_nanos bigint NOT NULL DEFAULT 0,
    loss_nanos bigint NOT NULL DEFAULT 0,
    ttft_ms integer,
    latency_ms integer NOT NULL DEFAULT 0,
    error_type text NOT NULL DEFAULT '',
    upstream_id text NOT NULL DEFAULT '',
    decision jsonb NOT NULL DEFAULT '{}',
    user_agent text NOT NULL DEFAULT '',
    ended_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT generations_amounts CHECK (
        input >= 0 AND cache_read >= 0 AND cache_write_5m >= 0 AND cache_write_1h >= 0
        AND output >= 0 AND reasoning >= 0 AND markup >= 0
        AND base_nanos >= 0 AND charge_nanos >= base_nanos AND loss_nanos >= 0
    ),
    CONSTRAINT generations_status CHECK (
        status IN ('completed', 'aborted') OR (status IN ('failed', 'void') AND charge_nanos = 0)
    )
) PARTITION BY RANGE (id);

CREATE INDEX generations_organization ON generations (organization_id, id DESC);
CREATE INDEX generations_unposted ON generations (organization_id, id) WHERE posting_id IS NULL;
CREATE INDEX generations_unposted_key ON generations (key_id) WHERE posting_id IS NULL;

-- Nothing is ever refused for want of a month: what fits no month waits here until its month is made.
CREATE TABLE generations_rest PARTITION OF generations DEFAULT;
"""

# The new table is filled before it is attached, so that the rows which waited for their month are in
# one partition or the other at every moment that anybody can see.
MAKE_PARTITION = """
CREATE FUNCTION make_generation_partition(month date) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    starts timestamptz := date_trunc('month', month::timestamp) AT TIME ZONE 'UTC';
    ends timestamptz := (date_trunc('month', month::timestamp) + interval '1 month') AT TIME ZONE 'UTC';
    first_id uuid := uuid7_from(starts);
    next_id uuid := uuid7_from(ends);
    name text := 'generations_' || to_char(month, 'YYYY_MM');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('make_generation_partition'));
    IF to_regclass(name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE generations INCLUDING ALL)', name);
    EXECUTE format('ALTER TABLE %I SET (autovacuum_vacuum_scale_factor = 0.05)', name);
    IF EXISTS (SELECT FROM generations_rest WHERE id >= first_id AND id < next_id) THEN
        LOCK TABLE generations_rest IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('INSERT INTO %I SELECT * FROM generations_rest WHERE id >= $1 AND id < $2', name)
            USING first_id, next_id;
        ALTER TABLE generations_rest DISABLE TRIGGER USER;
        DELETE FROM generations_rest WHERE id >= first_id AND id < next_id;
        ALTER TABLE generations_rest ENABLE TRIGGER USER;
    END IF;
    EXECUTE format('ALTER TABLE generations ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   name, first_id, next_id);
    RETURN true;
END
$$;
"""

FIRST_MONTHS = """
SELECT make_generation_partition((date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month')::date)
FROM generate_series(-1, 2) AS n;
"""

DROP = """
DROP TABLE generations;
DROP FUNCTION make_generation_partition(date);
DROP FUNCTION uuid7_from(timestamptz);
DROP FUNCTION uuid7_time(uuid);
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "__first__"), ("billing", "0001_wallets_prices_and_the_ledger")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(CREATE_TABLE, DROP),
                migrations.RunSQL(MAKE_PARTITION, migrations.RunSQL.noop),
                migrations.RunSQL(FIRST_MONTHS, migrations.RunSQL.noop),
            ],
            state_operations=[
                migrations.CreateModel(
                    name="Generation",
                    fields=[
                        ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                        ("spool", models.UUIDField()),
                        ("posting_id", models.BigIntegerField(null=True)),
                        ("status", models.TextField()),
                        ("model_asked", models.TextField(default="")),
                        ("model", models.TextField(default="")),
                        ("endpoint", models.TextField(default="")),
                        ("preference", models.TextField(default="")),
                        ("streamed", models.BooleanField(default=False)),
                        ("finish_reason", models.TextField(default="")),
                        ("native_finish_reason", models.TextField(default="")),
                        ("estimated", models.BooleanField(default=False)),
                        ("input", models.IntegerField(default=0)),
                        ("cache_read", models.IntegerField(default=0)),
                        ("cache_write_5m", models.IntegerField(default=0)),
                        ("cache_write_1h", models.IntegerField(default=0)),
                        ("output", models.IntegerField(default=0)),
                        ("reasoning", models.IntegerField(default=0)),
                        ("price_id", models.BigIntegerField(null=True)),
                        ("markup", models.DecimalField(decimal_places=6, default=0, max_digits=9)),
                        ("parts", models.JSONField(default=list)),
                        ("base_nanos", models.BigIntegerField(default=0)),
                        ("charge_nanos", models.BigIntegerField(default=0)),
                        ("loss_nanos", models.BigIntegerField(default=0)),
                        ("ttft_ms", models.IntegerField(null=True)),
                        ("latency_ms", models.IntegerField(default=0)),
                        ("error_type", models.TextField(default="")),
                        ("upstream_id", models.TextField(default="")),
                        ("decision", models.JSONField(default=dict)),
                        ("user_agent", models.TextField(default="")),
                        ("ended_at", models.DateTimeField(default=aggregator.lib.clock.now)),
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
                        "db_table": "generations",
                        "abstract": False,
                        "base_manager_name": "unscoped",
                        "default_manager_name": "unscoped",
                    },
                    managers=[
                        ("unscoped", django.db.models.manager.Manager()),
                    ],
                ),
                migrations.AddIndex(
                    model_name="generation",
                    index=models.Index(fields=["organization", "-id"], name="generations_organization"),
                ),
                migrations.AddIndex(
                    model_name="generation",
                    index=models.Index(
                        condition=models.Q(("posting_id", None)),
                        fields=["organization", "id"],
                        name="generations_unposted",
                    ),
                ),
                migrations.AddIndex(
                    model_name="generation",
                    index=models.Index(
                        condition=models.Q(("posting_id", None)),
                        fields=["key"],
                        name="generations_unposted_key",
                    ),
                ),
                migrations.AddConstraint(
                    model_name="generation",
                    constraint=models.CheckConstraint(
                        condition=models.Q(
                            ("cache_read__gte", 0),
                            ("cache_write_1h__gte", 0),
                            ("cache_write_5m__gte", 0),
                            ("input__gte", 0),
                            ("base_nanos__gte", 0),
                            ("markup__gte", 0),
                            ("output__gte", 0),
                            ("reasoning__gte", 0),
                            ("charge_nanos__gte", models.F("base_nanos")),
                            ("loss_nanos__gte", 0),
                        ),
                        name="generations_amounts",
                    ),
                ),
                migrations.AddConstraint(
                    model_name="generation",
                    constraint=models.CheckConstraint(
                        condition=models.Q(
                            ("status__in", ["completed", "aborted"]),
                            models.Q(("charge_nanos", 0), ("status__in", ["failed", "void"])),
                            _connector="OR",
                        ),
                        name="generations_status",
                    ),
                ),
            ],
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="generation",
            trigger=pgtrigger.compiler.Trigger(
                name="no_delete",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="RAISE EXCEPTION 'pgtrigger: Cannot delete rows from % table', TG_TABLE_NAME;",
                    hash="8d1d60b3f928d1be6d87b531d9ba0371e989c0da",
                    operation="DELETE",
                    pgid="pgtrigger_no_delete_9c5a8",
                    table="generations",
                    when="BEFORE",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="generation",
            trigger=pgtrigger.compiler.Trigger(
                name="posted_once",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    declare="DECLARE unposted record;",
                    func="\n                unposted := NEW;\n                unposted.posting_id := NULL;\n                IF OLD.posting_id IS NOT NULL OR NEW.posting_id IS NULL OR unposted IS DISTINCT FROM OLD THEN\n                    RAISE EXCEPTION 'generation % can only be posted, and once', OLD.id\n                        USING ERRCODE = 'check_violation';\n                END IF;\n                RETURN NEW;\n                ",
                    hash="4381d714133d7e460d04215b2ee51c0ad727e7e1",
                    operation="UPDATE",
                    pgid="pgtrigger_posted_once_ed427",
                    table="generations",
                    when="BEFORE",
                ),
            ),
        ),
    ]
