"""Tell the gate, after the commit, that an organization's money or terms changed.

What was committed stands whatever becomes of the gate: when Redis cannot be reached, a job tries again.
"""

from __future__ import annotations

from functools import partial

import structlog
from django.db import transaction
from kombu.exceptions import OperationalError as BrokerUnreachable

from aggregator.lib import jobs, kv
from aggregator.lib.errors import Refusal
from billing import gate

log = structlog.get_logger(__name__)


def after_commit(organization: str) -> None:
    """Load the organization (its public id) into the gate again, once the transaction commits."""
    transaction.on_commit(partial(_reload, organization))


def _reload(organization: str) -> None:
    try:
        gate.reload(organization)
    except (kv.Failed, Refusal) as error:
        log.error("wallet not loaded into the gate", organization=organization, error=str(error))
        try:
            jobs.enqueue("billing.reload_gate", organization=organization)
        except BrokerUnreachable as lost:
            # A gate that lost its memory loads the wallet before it uses it; until then it knows less credit.
            log.error(
                "job not enqueued", job="billing.reload_gate", organization=organization, error=str(lost)
            )
