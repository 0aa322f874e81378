"""What waits for somebody, counted: for the operators' first page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from billing import quarantine, watch
from billing.models import Inquiry, Wallet


@dataclass(frozen=True, slots=True)
class Standing:
    frozen: int
    quarantined: int
    """Records that PostgreSQL refused, in this host's spool."""
    inquiries: int
    """That no mail has told of."""
    queues: list[watch.Backlog]


def standing(spool_dir: Path) -> Standing:
    return Standing(
        frozen=Wallet.unscoped.exclude(frozen_because="").count(),
        quarantined=len(quarantine.waiting(spool_dir)),
        inquiries=Inquiry.objects.filter(sent_at=None).count(),
        queues=watch.backlogs(),
    )
