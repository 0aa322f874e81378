"""The one place at which the rest of the product hears of a new document."""

from __future__ import annotations

import structlog

from aggregator.lib import jobs
from billing.models import Document

log = structlog.get_logger(__name__)


def announce(document: Document) -> None:
    """Call it in the transaction that issues the document: `tell` is a job after the commit."""
    jobs.enqueue("billing.document_issued", document=str(document.pk))


def tell(document: Document) -> None:
    """Who must hear of a document that was issued. It may be called twice."""
    log.info("document issued", number=document.number, kind=document.kind, purpose=document.purpose)
