"""`manage.py stripe_setup`: what must stand at Stripe before anybody can pay; may be repeated."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from billing.payments import stripe_setup
from billing.stripe_client.door import StripeRefused, StripeUnreachable


class Command(BaseCommand):
    help = (
        "Make products, prices, the portal's settings and the webhook endpoint at Stripe, where they differ."
    )

    requires_system_checks = []  # which refuse to start without the signing secret that this may make

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="tell what would be done, and do nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.STRIPE_SECRET_KEY:
            raise CommandError("STRIPE_SECRET_KEY is not set.")
        dry = options["dry_run"]
        try:
            for step in stripe_setup.run(webhook=not settings.STRIPE_API_BASE, dry=dry):
                done = "" if not step.changes else "would " if dry else "done: "
                self.stdout.write(done + step.says)
                if step.secret:
                    self.stdout.write(
                        f"STRIPE_WEBHOOK_SECRETS={step.secret}\n"
                        "Stripe tells this once. Keep an older one after a comma while its endpoint sends."
                    )
        except (stripe_setup.BadSetting, StripeRefused, StripeUnreachable) as error:
            raise CommandError(str(error)) from error
