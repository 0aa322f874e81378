"""Which window of its price a call was charged in.

Without NOT NULL in the table: a process that was started before this migration copies its records through a
temporary table made like this one, without the column. Merged from there, they get the default. An added
column with a constant default rewrites no partition.
"""

from django.db import migrations, models

_ADD = "ALTER TABLE generations ADD COLUMN price_window smallint DEFAULT 0"


class Migration(migrations.Migration):
    dependencies = [("billing", "0005_when_spools_were_seen")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(_ADD, "ALTER TABLE generations DROP COLUMN price_window")],
            state_operations=[
                migrations.AddField(
                    model_name="generation",
                    name="price_window",
                    field=models.SmallIntegerField(default=0),
                ),
            ],
        ),
    ]
