from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
from django.db import migrations, models

import aggregator.lib.clock

CREATE_TABLES = """
CREATE TABLE spools (
    id uuid PRIMARY KEY,
    host text NOT NULL DEFAULT '',
    pid integer NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now()
);
-- Closing a spool takes its tallies in the same statement; a late flush then fails whole.
CREATE TABLE tallies (
    spool uuid NOT NULL REFERENCES spools ON DELETE CASCADE,
    account text NOT NULL,
    nanos bigint NOT NULL,
    PRIMARY KEY (account, spool)
);
CREATE INDEX tallies_spool ON tallies (spool);
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "__first__"), ("billing", "0002_generations_by_month")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(CREATE_TABLES, "DROP TABLE tallies; DROP TABLE spools")],
            state_operations=[
                migrations.CreateModel(
                    name="Spool",
                    fields=[
                        ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                        ("host", models.TextField(default="")),
                        ("pid", models.IntegerField(default=0)),
                        ("started_at", models.DateTimeField(default=aggregator.lib.clock.now)),
                    ],
                    options={
                        "db_table": "spools",
                    },
                ),
                migrations.CreateModel(
                    name="Tally",
                    fields=[
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "account",
                                "spool_id",
                                blank=True,
                                editable=False,
                                primary_key=True,
                                serialize=False,
                            ),
                        ),
                        ("account", models.TextField()),
                        ("nanos", models.BigIntegerField()),
                    ],
                    options={
                        "db_table": "tallies",
                    },
                ),
                migrations.AddField(
                    model_name="tally",
                    name="spool",
                    field=models.ForeignKey(
                        db_column="spool",
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="billing.spool",
                    ),
                ),
                migrations.AddIndex(
                    model_name="tally",
                    index=models.Index(fields=["spool"], name="tallies_spool"),
                ),
            ],
        ),
        migrations.CreateModel(
            name="HourlyUsage",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("model", models.TextField()),
                ("endpoint", models.TextField()),
                ("hour", models.DateTimeField()),
                ("requests", models.BigIntegerField()),
                ("input", models.BigIntegerField()),
                ("cache_read", models.BigIntegerField()),
                ("cache_write_5m", models.BigIntegerField()),
                ("cache_write_1h", models.BigIntegerField()),
                ("output", models.BigIntegerField()),
                ("reasoning", models.BigIntegerField()),
                ("base_nanos", models.BigIntegerField()),
                ("charge_nanos", models.BigIntegerField()),
                ("loss_nanos", models.BigIntegerField()),
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
            },
            managers=[
                ("unscoped", django.db.models.manager.Manager()),
            ],
        ),
        migrations.AddIndex(
            model_name="hourlyusage",
            index=models.Index(fields=["key", "hour"], name="hourly_usage_key_hour"),
        ),
        migrations.AddIndex(
            model_name="hourlyusage",
            index=models.Index(fields=["organization", "hour"], name="hourly_usage_organization_hour"),
        ),
        migrations.AddConstraint(
            model_name="hourlyusage",
            constraint=models.UniqueConstraint(
                fields=("organization", "key", "endpoint", "hour"), name="hourly_usage_once"
            ),
        ),
    ]
