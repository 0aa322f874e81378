"""Indexes for what looks every minute, or at the last hours, so that it does not read whole tables.

Not built concurrently: who posts meanwhile waits for a moment, and calls do not wait for who posts.
"""

from __future__ import annotations

from django.contrib.postgres.indexes import BrinIndex
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0013_movements_that_are_not_usage")]

    operations = [
        migrations.AddIndex(
            model_name="letter",
            index=models.Index(
                condition=models.Q(("sent_at", None)), fields=["created_at"], name="letters_waiting"
            ),
        ),
        migrations.AddIndex(
            model_name="posting",
            index=models.Index(
                condition=models.Q(("kind", "usage"), _negated=True),
                fields=["created_at"],
                name="postings_movements_at",
            ),
        ),
        migrations.AddIndex(
            model_name="posting",
            index=BrinIndex(autosummarize=True, fields=["created_at"], name="postings_created_at"),
        ),
    ]
