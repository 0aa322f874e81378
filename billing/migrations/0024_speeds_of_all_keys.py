"""How long calls took, of all keys together: under the key 0."""

from __future__ import annotations

from django.db import migrations

# Who posts meanwhile waits until the sums hold everything before.
BACKFILL = """
LOCK TABLE billing_speedspan IN SHARE ROW EXCLUSIVE MODE;

INSERT INTO billing_speedspan (organization_id, key_id, hours, start, first, step, calls)
SELECT organization_id, 0, hours, start, first, step, sum(calls)
FROM billing_speedspan GROUP BY organization_id, hours, start, first, step;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0023_dropped_months")]

    operations = [
        migrations.RunSQL(BACKFILL, "DELETE FROM billing_speedspan WHERE key_id = 0"),
    ]
