from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("routing", "0004_probe_days"),
    ]

    operations = [
        migrations.CreateModel(
            name="PriceSource",
            fields=[
                ("name", models.CharField(max_length=40, primary_key=True, serialize=False)),
                ("version", models.CharField(blank=True, max_length=60)),
                ("tried_at", models.DateTimeField()),
                ("seen_at", models.DateTimeField()),
                ("problem", models.TextField(blank=True)),
                ("silence_told_at", models.DateTimeField(null=True)),
            ],
            options={
                "ordering": ("name",),
            },
        ),
        migrations.CreateModel(
            name="PriceProposal",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("endpoint", models.CharField(max_length=150)),
                ("source", models.CharField(max_length=60)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("approved", "Approved"),
                            ("refused", "Refused"),
                            ("applied", "Applied by itself"),
                            ("withdrawn", "Withdrawn"),
                            ("noted", "Noted"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "price_id",
                    models.BigIntegerField(help_text="The price row in force when this was proposed."),
                ),
                ("now", models.JSONField()),
                ("proposed", models.JSONField()),
                ("differences", models.JSONField()),
                ("percent", models.DecimalField(decimal_places=2, max_digits=30, null=True)),
                ("reason", models.TextField(blank=True)),
                ("decided_by", models.CharField(blank=True, max_length=300)),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField()),
                ("told_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ("-id",),
                "indexes": [models.Index(fields=["endpoint", "-id"], name="price_proposals_endpoint")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state", "waiting")),
                        fields=("endpoint",),
                        name="one_price_waits_for_an_endpoint",
                    )
                ],
            },
        ),
    ]
