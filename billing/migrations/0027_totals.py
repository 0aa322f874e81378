"""The sum of whole numbers as a whole number: `sum` makes a numeric of each, which costs as much again."""

from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("billing", "0026_how_far_the_ledger_is_proven")]

    operations = [
        migrations.RunSQL(
            "CREATE AGGREGATE total(bigint) (SFUNC = int8pl, STYPE = bigint, COMBINEFUNC = int8pl,"
            " PARALLEL = SAFE)",
            "DROP AGGREGATE total(bigint)",
        )
    ]
