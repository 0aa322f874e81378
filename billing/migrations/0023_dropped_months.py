"""What months of generations came to that are no longer kept; such a month is never begun again."""

from __future__ import annotations

import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models

import aggregator.lib.clock

# A call that was dropped with its month would be charged again: what is delivered for such a month is refused.
REFUSE = """
CREATE FUNCTION refuse_dropped_month() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM billing_droppedmonth
               WHERE month = date_trunc('month', uuid7_time(NEW.id) AT TIME ZONE 'UTC')::date) THEN
        RAISE EXCEPTION 'generation % is of a month that was dropped', NEW.id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER refuse_dropped_month BEFORE INSERT ON generations_rest
FOR EACH ROW EXECUTE FUNCTION refuse_dropped_month();
"""

_ALLOW = """
DROP TRIGGER refuse_dropped_month ON generations_rest;
DROP FUNCTION refuse_dropped_month();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0022_usage_by_endpoints_and_months"),
    ]

    operations = [
        migrations.CreateModel(
            name="DroppedMonth",
            fields=[
                ("month", models.DateField(primary_key=True, serialize=False)),
                ("requests", models.BigIntegerField()),
                ("base_nanos", models.BigIntegerField()),
                ("charge_nanos", models.BigIntegerField()),
                ("loss_nanos", models.BigIntegerField()),
                ("dropped_at", models.DateTimeField(default=aggregator.lib.clock.now)),
            ],
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="droppedmonth",
            trigger=pgtrigger.compiler.Trigger(
                name="append_only",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;",
                    hash="bcf5708734e1f41d567d614e4d0091d7292537c9",
                    operation="UPDATE OR DELETE",
                    pgid="pgtrigger_append_only_d6c5e",
                    table="billing_droppedmonth",
                    when="BEFORE",
                ),
            ),
        ),
        migrations.RunSQL(REFUSE, _ALLOW),
    ]
