"""Usage by months, and of all keys together: what a year of many keys is read from."""

from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
from django.db import migrations, models

SUMMED = (
    *("requests", "failed", "aborted", "prompt", "cached", "cache_written", "completion", "reasoning"),
    *("base_nanos", "charge_nanos", "loss_nanos", "saved_nanos"),
)
_SUMS = ", ".join(f"sum({name})" for name in SUMMED)

# Who posts meanwhile waits until the sums hold everything before.
BACKFILL = f"""
LOCK TABLE billing_usagespan IN SHARE ROW EXCLUSIVE MODE;

INSERT INTO billing_usagespan (organization_id, key_id, model, endpoint, hours, start, {", ".join(SUMMED)})
SELECT organization_id, key_id, max(model), endpoint, 720, date_trunc('month', start, 'UTC'), {_SUMS}
FROM billing_usagespan WHERE hours = 24
GROUP BY organization_id, key_id, endpoint, date_trunc('month', start, 'UTC');

INSERT INTO billing_endpointspan (organization_id, model, endpoint, hours, start, {", ".join(SUMMED)})
SELECT organization_id, max(model), endpoint, hours, start, {_SUMS}
FROM billing_usagespan GROUP BY organization_id, endpoint, hours, start;
"""  # noqa: S608 - names of columns

_EMPTY = "DELETE FROM billing_usagespan WHERE hours = 720"


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_versions_of_budgets"),
        ("billing", "0021_alerts_of_budgets"),
    ]

    operations = [
        migrations.CreateModel(
            name="EndpointSpan",
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
                *((name, models.BigIntegerField()) for name in SUMMED),
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
                        fields=("organization", "hours", "start", "endpoint"), name="endpoint_span_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("hours__in", [1, 24, 720])), name="endpoint_span_hours"
                    ),
                ],
            },
            managers=[
                ("unscoped", django.db.models.manager.Manager()),
            ],
        ),
        migrations.RemoveConstraint(model_name="usagespan", name="usage_span_hours"),
        migrations.AddConstraint(
            model_name="usagespan",
            constraint=models.CheckConstraint(
                condition=models.Q(("hours__in", [1, 24, 720])), name="usage_span_hours"
            ),
        ),
        migrations.RunSQL(BACKFILL, _EMPTY),
    ]
