"""What end users used by months: what a year of many end users is read from."""

from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
from django.db import migrations, models

# Who posts meanwhile waits until the sums hold everything before.
BACKFILL = """
LOCK TABLE billing_enduserday IN SHARE ROW EXCLUSIVE MODE;

INSERT INTO billing_endusermonth
    (organization_id, end_user, month, requests, prompt, completion, charge_nanos)
SELECT organization_id, end_user, date_trunc('month', day)::date, sum(requests), sum(prompt), sum(completion),
       sum(charge_nanos)
FROM billing_enduserday GROUP BY organization_id, end_user, date_trunc('month', day)::date;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_versions_of_budgets"),
        ("billing", "0024_speeds_of_all_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="EndUserMonth",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("end_user", models.TextField()),
                ("month", models.DateField()),
                *(
                    (name, models.BigIntegerField())
                    for name in ("requests", "prompt", "completion", "charge_nanos")
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
                "indexes": [models.Index(fields=["organization", "month"], name="end_user_month")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "end_user", "month"), name="end_user_month_once"
                    )
                ],
            },
            managers=[
                ("unscoped", django.db.models.manager.Manager()),
            ],
        ),
        migrations.RunSQL(BACKFILL, migrations.RunSQL.noop),
    ]
