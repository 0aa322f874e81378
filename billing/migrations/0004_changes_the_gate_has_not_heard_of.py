from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0003_spools_and_hourly_usage")]

    operations = [
        migrations.AddField(
            model_name="wallet",
            name="untold",
            field=models.UUIDField(null=True, blank=True, editable=False),
        ),
        migrations.AddIndex(
            model_name="wallet",
            index=models.Index(
                fields=["organization"], condition=models.Q(untold__isnull=False), name="wallets_untold"
            ),
        ),
    ]
