"""An index by which a call is found by what its provider called it."""

from __future__ import annotations

from django.contrib.postgres.indexes import HashIndex
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0027_totals")]

    operations = [
        migrations.AddIndex(
            model_name="generation",
            index=HashIndex(
                fields=["upstream_id"],
                condition=models.Q(("upstream_id", ""), _negated=True),
                name="generations_upstream",
            ),
        )
    ]
