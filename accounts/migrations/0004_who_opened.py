"""Who opened each organization that is there already: its first owner."""

from django.db import migrations

_FIRST_OWNER = """
UPDATE accounts_organization o SET opened_by_id = (
    SELECT m.user_id FROM accounts_membership m
    WHERE m.organization_id = o.id AND m.role = 'owner' ORDER BY m.id LIMIT 1)
WHERE o.opened_by_id IS NULL
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_people")]

    operations = [migrations.RunSQL(_FIRST_OWNER, migrations.RunSQL.noop)]
