"""`manage.py check_ledger`: every invariant of money; a breach is a line and exit 1."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from billing import reconcile


class Command(BaseCommand):
    help = "Check every invariant of money over all rows; exit 1 when one is broken."

    def handle(self, *args: Any, **options: Any) -> None:
        findings = reconcile.check()
        for finding in findings:
            if finding.holds:
                self.stdout.write(f"holds   {finding.name}: {finding.says}")
                continue
            shown = "; ".join(finding.examples)
            more = finding.breaches - len(finding.examples)
            rest = f" (and {more} more)" if more else ""
            self.stdout.write(f"BROKEN  {finding.name}: {finding.breaches} × {shown}{rest}")
        if not all(finding.holds for finding in findings):
            sys.exit(1)
