from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models

import aggregator.lib.clock


class Migration(migrations.Migration):
    initial = True

    dependencies = [("accounts", "__first__")]

    operations = [
        migrations.CreateModel(
            name="Posting",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("kind", models.TextField()),
                ("source", models.TextField()),
                ("source_id", models.TextField()),
                ("note", models.TextField(default="")),
                ("created_at", models.DateTimeField(default=aggregator.lib.clock.now)),
            ],
        ),
        migrations.CreateModel(
            name="Price",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("endpoint", models.TextField()),
                ("stated", models.JSONField()),
                ("source", models.TextField()),
                ("starts_at", models.DateTimeField(default=aggregator.lib.clock.now)),
            ],
        ),
        migrations.CreateModel(
            name="Wallet",
            fields=[
                (
                    "organization",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="accounts.organization",
                    ),
                ),
                ("balance_nanos", models.BigIntegerField(default=0)),
                ("plan", models.TextField()),
                ("markup", models.DecimalField(decimal_places=6, max_digits=9)),
                ("terms_version", models.IntegerField(default=1)),
                ("opened_at", models.DateTimeField(default=aggregator.lib.clock.now)),
            ],
            options={
                "abstract": False,
                "base_manager_name": "unscoped",
                "default_manager_name": "unscoped",
            },
            managers=[
                ("unscoped", django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name="Account",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("kind", models.TextField()),
                (
                    "organization",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Entry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("nanos", models.BigIntegerField()),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="billing.account"
                    ),
                ),
            ],
            options={"verbose_name_plural": "entries"},
        ),
        migrations.CreateModel(
            name="Plan",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("slug", models.TextField()),
                ("name", models.TextField()),
                ("markup", models.DecimalField(decimal_places=6, max_digits=9, null=True)),
                ("monthly_nanos", models.BigIntegerField(null=True)),
                ("volume_discount", models.DecimalField(decimal_places=6, max_digits=9, null=True)),
                ("discount_threshold_nanos", models.BigIntegerField(default=0)),
                ("discount_basis", models.TextField(default="billed")),
                ("starts_at", models.DateTimeField(default=aggregator.lib.clock.now)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("slug", "starts_at"), name="plans_slug_starts_at"),
                    models.CheckConstraint(
                        condition=models.Q(("markup__isnull", True), ("markup__gte", 0), _connector="OR"),
                        name="plans_markup",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("volume_discount__isnull", True),
                            models.Q(("volume_discount__gte", 0), ("volume_discount__lt", 1)),
                            _connector="OR",
                        ),
                        name="plans_volume_discount",
                    ),
                ],
            },
        ),
        migrations.AddField(
            model_name="posting",
            name="organization",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="accounts.organization",
            ),
        ),
        migrations.AddField(
            model_name="entry",
            name="posting",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="entries",
                to="billing.posting",
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="plan",
            trigger=pgtrigger.compiler.Trigger(
                name="append_only",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;",
                    hash="1f92b38e350512a192b06fc5cf4c373eaa5a392c",
                    operation="UPDATE OR DELETE",
                    pgid="pgtrigger_append_only_2bb34",
                    table="billing_plan",
                    when="BEFORE",
                ),
            ),
        ),
        migrations.AddIndex(
            model_name="price",
            index=models.Index(fields=["endpoint", "starts_at"], name="prices_endpoint_starts_at"),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="price",
            trigger=pgtrigger.compiler.Trigger(
                name="append_only",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;",
                    hash="4a80fd30ea9f06ef196296890ba6a59b8b5a4c7c",
                    operation="UPDATE OR DELETE",
                    pgid="pgtrigger_append_only_263df",
                    table="billing_price",
                    when="BEFORE",
                ),
            ),
        ),
        migrations.AddConstraint(
            model_name="wallet",
            constraint=models.CheckConstraint(
                condition=models.Q(("markup__gte", 0), ("markup__lte", 100)), name="wallets_markup"
            ),
        ),
        migrations.AddConstraint(
            model_name="wallet",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("balance_nanos__gte", -9007199254740991), ("balance_nanos__lte", 9007199254740991)
                ),
                name="wallets_balance",
            ),
        ),
        migrations.AddConstraint(
            model_name="account",
            constraint=models.UniqueConstraint(
                fields=("kind", "organization"), name="ledger_accounts_once", nulls_distinct=False
            ),
        ),
        migrations.AddIndex(
            model_name="posting",
            index=models.Index(fields=["organization", "-id"], name="postings_organization"),
        ),
        migrations.AddConstraint(
            model_name="posting",
            constraint=models.UniqueConstraint(fields=("kind", "source_id"), name="postings_once"),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="posting",
            trigger=pgtrigger.compiler.Trigger(
                name="append_only",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;",
                    hash="c15945dfa97041261a4c8e2c7962bc7108cc4c58",
                    operation="UPDATE OR DELETE",
                    pgid="pgtrigger_append_only_cd6a1",
                    table="billing_posting",
                    when="BEFORE",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="posting",
            trigger=pgtrigger.compiler.Trigger(
                name="balanced",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    constraint="CONSTRAINT",
                    func="\nIF (SELECT coalesce(sum(nanos), 1) FROM billing_entry WHERE posting_id = NEW.id) <> 0 THEN\n    RAISE EXCEPTION 'posting % does not balance', NEW.id USING ERRCODE = 'check_violation';\nEND IF;\nRETURN NULL;\n",
                    hash="0599cc7cf231e019674384c2cfd1c765f5d1df6c",
                    operation="INSERT",
                    pgid="pgtrigger_balanced_678ff",
                    table="billing_posting",
                    timing="DEFERRABLE INITIALLY DEFERRED",
                    when="AFTER",
                ),
            ),
        ),
        migrations.AddConstraint(
            model_name="entry",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("nanos", 0), _negated=True),
                    ("nanos__gte", -9007199254740991),
                    ("nanos__lte", 9007199254740991),
                ),
                name="entries_nanos",
            ),
        ),
        migrations.AddConstraint(
            model_name="entry",
            constraint=models.UniqueConstraint(fields=("posting", "account"), name="entries_account_once"),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="entry",
            trigger=pgtrigger.compiler.Trigger(
                name="append_only",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;",
                    hash="6a3f3c31300250952e25802e86b601f577dc9ce2",
                    operation="UPDATE OR DELETE",
                    pgid="pgtrigger_append_only_9a5fe",
                    table="billing_entry",
                    when="BEFORE",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="entry",
            trigger=pgtrigger.compiler.Trigger(
                name="balanced",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    constraint="CONSTRAINT",
                    func="\nIF (SELECT coalesce(sum(nanos), 1) FROM billing_entry WHERE posting_id = NEW.posting_id) <> 0 THEN\n    RAISE EXCEPTION 'posting % does not balance', NEW.posting_id USING ERRCODE = 'check_violation';\nEND IF;\nRETURN NULL;\n",
                    hash="dc7f51b5d4804550a9c394dee8833bde58d2ae83",
                    operation="INSERT",
                    pgid="pgtrigger_balanced_cea1e",
                    table="billing_entry",
                    timing="DEFERRABLE INITIALLY DEFERRED",
                    when="AFTER",
                ),
            ),
        ),
    ]
