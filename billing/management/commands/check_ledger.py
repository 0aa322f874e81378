"""`manage.py check_ledger`: every invariant of money; a breach is a line and exit 1."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand

from aggregator.lib import clock
from billing import reconcile
from billing.documents import proofs
from billing.payments import stripe_books
from billing.reconcile import Finding
from billing.stripe_client.door import StripeRefused, StripeUnreachable


class Command(BaseCommand):
    help = "Check every invariant of money over all rows, and Stripe's books; exit 1 when one is broken."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--stripe-days", type=int, default=4, help="how many days of Stripe's books to compare (0: none)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        findings = [*reconcile.check(), proofs.check()]
        if options["stripe_days"] > 0:
            findings.append(_stripe(options["stripe_days"]))
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


def _stripe(days: int) -> Finding:
    try:
        return stripe_books.check(clock.now() - timedelta(days=days))
    except (StripeUnreachable, StripeRefused) as error:
        return Finding(stripe_books.NAME, stripe_books.SAYS, 1, (f"Stripe could not be asked: {error}",))
