"""Chains over the postings that were there, and lots for the credit that they gave.

The rules of the day stand here in full: a migration does not change when the product does.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC

import django.db.models.deletion
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models

CHUNK = 2_000

NAME_OWNERS = """
UPDATE billing_posting AS posting SET organization_id = coalesce(
    (SELECT max(account.organization_id) FROM billing_entry AS entry
     JOIN billing_account AS account ON account.id = entry.account_id WHERE entry.posting_id = posting.id),
    (SELECT generation.organization_id FROM generations AS generation
     WHERE generation.id = CASE WHEN posting.source_id ~ '^[0-9a-f-]{36}$' THEN posting.source_id::uuid END))
WHERE organization_id IS NULL
"""
POSTINGS = """
SELECT posting.id, posting.kind, posting.source, posting.source_id, posting.note, posting.created_at,
       (SELECT json_agg(json_build_array(account.kind, coalesce(account.organization_id, 0), entry.nanos))
        FROM billing_entry AS entry JOIN billing_account AS account ON account.id = entry.account_id
        WHERE entry.posting_id = posting.id)::text
FROM billing_posting AS posting
WHERE posting.organization_id = %s AND posting.id > %s ORDER BY posting.id LIMIT %s
"""


def make_chains_and_lots(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("ALTER TABLE billing_posting DISABLE TRIGGER USER")
        cursor.execute(NAME_OWNERS)
        cursor.execute("SELECT DISTINCT organization_id FROM billing_posting ORDER BY 1 NULLS FIRST")
        owners = [row[0] for row in cursor.fetchall()]
        if None in owners:
            raise RuntimeError("some postings belong to no organization: name one for each before migrating")
        for organization_id in owners:
            _chain(cursor, organization_id)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE billing_posting ENABLE TRIGGER USER")


def _chain(cursor, organization_id):
    """Until now credit was promotional and did not expire: the oldest burns first."""
    index, end, after = 0, b"", 0
    balance, lots = 0, []
    while True:
        cursor.execute(POSTINGS, [organization_id, after, CHUNK])
        rows = cursor.fetchall()
        if not rows:
            break
        links = []
        for posting_id, kind, source, source_id, note, created_at, entries in rows:
            index += 1
            lines = sorted(json.loads(entries or "[]"))
            instant = created_at.astimezone(UTC).isoformat(timespec="microseconds")
            said = json.dumps(
                [index, kind, source, source_id, note, instant, "", None, lines],
                separators=(",", ":"),
                ensure_ascii=True,
            )
            end = hashlib.sha256(end + said.encode()).digest()
            links.append((posting_id, index, end))
            nanos = sum(line[2] for line in lines if line[0] == "wallet")
            _move(lots, posting_id, nanos, balance, created_at)
            balance += nanos
        after = rows[-1][0]
        cursor.execute(
            "UPDATE billing_posting AS posting SET chain_index = link.index, chain_hash = link.hash"
            " FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[]) AS link (id, index, hash)"
            " WHERE posting.id = link.id",
            [list(column) for column in zip(*links, strict=True)],
        )
    cursor.execute(
        "UPDATE billing_wallet SET chain_length = %s, chain_hash = %s WHERE organization_id = %s",
        [index, end, organization_id],
    )
    cursor.executemany(
        "INSERT INTO billing_creditlot"
        " (organization_id, posting_id, kind, rank, nanos, remaining_nanos, created_at)"
        " VALUES (%s, %s, 'promotion', 0, %s, %s, %s)",
        [(organization_id, *lot) for lot in lots],
    )


def _move(lots, posting_id, nanos, balance, created_at):
    """`lots` are [posting id, nanos, remaining, created at], in the order in which they burn."""
    if nanos > 0:
        lots.append([posting_id, nanos, min(nanos, max(balance + nanos, 0)), created_at])
    for lot in lots:
        burnt = min(lot[2], max(-nanos, 0))
        lot[2] -= burnt
        nanos += burnt


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("billing", "0007_payments_and_terms"),
    ]

    operations = [
        migrations.AddField(
            model_name="posting",
            name="expires_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="posting",
            name="from_posting",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="billing.posting",
            ),
        ),
        migrations.RunPython(make_chains_and_lots, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="posting",
            name="chain_hash",
            field=models.BinaryField(),
        ),
        migrations.AlterField(
            model_name="posting",
            name="chain_index",
            field=models.BigIntegerField(),
        ),
        migrations.AlterField(
            model_name="posting",
            name="organization",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="accounts.organization",
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="creditlot",
            trigger=pgtrigger.compiler.Trigger(
                name="only_burns",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="\nIF TG_OP = 'UPDATE' AND to_jsonb(OLD) - 'remaining_nanos' = to_jsonb(NEW) - 'remaining_nanos' THEN\n    RETURN NEW;\nEND IF;\nRAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;\n",
                    hash="e729125c57eed6db2b96a1175ea9ba13e79c3d41",
                    operation="UPDATE OR DELETE",
                    pgid="pgtrigger_only_burns_c09b4",
                    table="billing_creditlot",
                    when="BEFORE",
                ),
            ),
        ),
        migrations.AddConstraint(
            model_name="posting",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    ("kind__in", ("refund_failed", "dispute_won", "subscription_refund_failed"))
                ),
                fields=("from_posting",),
                name="postings_reversed_once",
            ),
        ),
    ]
