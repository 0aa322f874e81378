"""Indexes by which an organization lists its dearest and its slowest calls."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0016_usage_by_hours_and_days")]

    operations = [
        migrations.AddIndex(
            model_name="generation",
            index=models.Index(fields=["organization", "-charge_nanos", "-id"], name="generations_dearest"),
        ),
        migrations.AddIndex(
            model_name="generation",
            index=models.Index(fields=["organization", "-latency_ms", "-id"], name="generations_slowest"),
        ),
    ]
