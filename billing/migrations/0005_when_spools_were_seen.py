"""When the process of an open spool last said that it lives."""

from django.db import migrations, models

import aggregator.lib.clock

_ADD = "ALTER TABLE spools ADD COLUMN seen_at timestamptz NOT NULL DEFAULT now()"


class Migration(migrations.Migration):
    dependencies = [("billing", "0004_changes_the_gate_has_not_heard_of")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(_ADD, "ALTER TABLE spools DROP COLUMN seen_at")],
            state_operations=[
                migrations.AddField(
                    model_name="spool",
                    name="seen_at",
                    field=models.DateTimeField(default=aggregator.lib.clock.now),
                ),
            ],
        ),
    ]
