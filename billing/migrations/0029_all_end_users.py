"""What all end users used together: under the empty name."""

from __future__ import annotations

from django.db import migrations

# Who posts meanwhile waits until the sums hold everything before.
BACKFILL = """
LOCK TABLE billing_enduserday, billing_endusermonth IN SHARE ROW EXCLUSIVE MODE;

INSERT INTO billing_enduserday (organization_id, end_user, day, requests, prompt, completion, charge_nanos)
SELECT organization_id, '', day, sum(requests), sum(prompt), sum(completion), sum(charge_nanos)
FROM billing_enduserday GROUP BY organization_id, day;

INSERT INTO billing_endusermonth
    (organization_id, end_user, month, requests, prompt, completion, charge_nanos)
SELECT organization_id, '', month, sum(requests), sum(prompt), sum(completion), sum(charge_nanos)
FROM billing_endusermonth GROUP BY organization_id, month;
"""
_BACK = """
DELETE FROM billing_enduserday WHERE end_user = '';
DELETE FROM billing_endusermonth WHERE end_user = '';
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0028_calls_by_providers_ids")]

    operations = [
        migrations.RunSQL(BACKFILL, _BACK),
    ]
