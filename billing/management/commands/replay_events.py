"""`manage.py replay_events evt_… | --failed | --since TIME`: handle events of Stripe again."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.payments import inbox
from billing.stripe_client.door import StripeRefused, StripeUnreachable


class Command(BaseCommand):
    help = "Handle events of Stripe again. It is always safe: what they are about is fetched as it is now."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "events", metavar="EVENT", nargs="*", help="evt_…; one that is not here is fetched"
        )
        parser.add_argument("--failed", action="store_true", help="those that were tried in vain")
        parser.add_argument("--since", metavar="TIME", help="all since then, such as 2026-11-23T14:00 (UTC)")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = list(options["events"])
        if not wanted and not options["failed"] and options["since"] is None:
            raise CommandError("Name events, or give --failed or --since TIME.")
        if options["failed"]:
            wanted += inbox.failed()
        if options["since"] is not None:
            wanted += inbox.since(_moment(options["since"]))
        try:
            count = inbox.replay(wanted)
        except (StripeRefused, StripeUnreachable) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{count} events will be handled again.")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"{text!r} is not a time such as 2026-11-23T14:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
