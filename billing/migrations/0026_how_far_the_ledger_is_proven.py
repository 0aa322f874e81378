"""How far the ledger is proven, account by account; the first check afterwards sums all that there is."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0025_end_users_by_months")]

    operations = [
        migrations.CreateModel(
            name="ProvenSum",
            fields=[
                (
                    "account",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="billing.account",
                    ),
                ),
                ("posting_id", models.BigIntegerField()),
                ("nanos", models.BigIntegerField()),
            ],
        ),
    ]
