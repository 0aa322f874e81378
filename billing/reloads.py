"""Tell the gate, after the commit, that an organization's money or terms changed.

The change itself leaves a note in its own transaction that the gate has not heard of it. Whoever dies, or
cannot reach the gate, between the commit and the telling leaves the note, and a job tells what is noted.
"""

from __future__ import annotations

import uuid
from functools import partial

import structlog
from django.db import connection, transaction

from aggregator.lib import ids, kv
from aggregator.lib.errors import Refusal
from billing import gate

log = structlog.get_logger(__name__)

_NOTE = """
UPDATE billing_wallet SET untold = %s
WHERE organization_id = (SELECT id FROM accounts_organization WHERE public_id = %s)
"""
_NOTED = """
SELECT o.public_id, w.untold FROM billing_wallet w JOIN accounts_organization o ON o.id = w.organization_id
WHERE w.untold IS NOT NULL
"""
_TOLD = """
UPDATE billing_wallet SET untold = NULL
WHERE untold = %s AND organization_id = (SELECT id FROM accounts_organization WHERE public_id = %s)
"""


def after_commit(organization: str) -> None:
    """Load the organization (its public id) into the gate again, once the transaction commits."""
    note = ids.uuid7()
    with connection.cursor() as cursor:
        cursor.execute(_NOTE, [note, organization])
    transaction.on_commit(partial(_tell, organization, note))


def tell_all() -> int:
    """Tell what is still noted; answers how many organizations the gate has now heard of."""
    with connection.cursor() as cursor:
        cursor.execute(_NOTED)
        noted = cursor.fetchall()
    return sum(_tell(organization, note) for organization, note in noted)


def _tell(organization: str, note: uuid.UUID) -> bool:
    """The note goes only if it is this one: a later change is not in what was loaded."""
    try:
        gate.reload(organization)
    except (kv.Failed, Refusal) as error:
        log.error("wallet not loaded into the gate", organization=organization, error=str(error))
        return False
    with connection.cursor() as cursor:
        cursor.execute(_TOLD, [note, organization])
    return True
