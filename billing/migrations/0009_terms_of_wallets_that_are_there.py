"""Every wallet has a row of the terms that it buys at; those opened before get one as of their opening."""

from __future__ import annotations

from django.db import migrations

_WRITE_DOWN = """
INSERT INTO billing_agreedterms
    (organization_id, version, plan, markup, monthly_nanos, volume_discount, discount_threshold_nanos,
     discount_basis, credit_limit_nanos, postpaid, days_until_due, starts_at, agreed_by, note)
SELECT wallet.organization_id, wallet.terms_version, wallet.plan, wallet.markup,
       coalesce(plan.monthly_nanos, 0), coalesce(plan.volume_discount, 0),
       coalesce(plan.discount_threshold_nanos, 0), coalesce(plan.discount_basis, 'billed'),
       wallet.credit_limit_nanos, false, 0, wallet.opened_at, 'system:fairlead', ''
FROM billing_wallet AS wallet
LEFT JOIN LATERAL (
    SELECT * FROM billing_plan WHERE slug = wallet.plan AND starts_at <= now()
    ORDER BY starts_at DESC LIMIT 1
) AS plan ON true
WHERE NOT EXISTS (SELECT FROM billing_agreedterms AS agreed
                  WHERE agreed.organization_id = wallet.organization_id)
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0008_chains_and_lots")]

    operations = [migrations.RunSQL(_WRITE_DOWN, migrations.RunSQL.noop)]
