"""`manage.py grant ORG USD`: credit by hand, for ever or until an instant."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Organization
from billing import wallets
from billing.core.money import parse_usd, show_usd


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a date such as 2027-01-31") from error
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


class Command(BaseCommand):
    help = "Give an organization credit, booked as a promotion; prints the new balance."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("organization", metavar="ORG_SLUG")
        parser.add_argument("usd", metavar="USD", help="an exact amount, such as 12.50")
        parser.add_argument(
            "--expires",
            metavar="INSTANT",
            type=_instant,
            help="when what is left of it ends, UTC unless it says: 2027-01-31 (as that day begins) or"
            " 2027-01-31T18:00",
        )
        parser.add_argument("--note", default="", help="why; kept in the ledger and the audit log")

    def handle(self, *args: Any, **options: Any) -> None:
        slug = options["organization"]
        try:
            wallet = wallets.grant(
                slug, parse_usd(options["usd"]), note=options["note"], expires_at=options["expires"]
            )
        except Organization.DoesNotExist as error:
            raise CommandError(f"There is no organization {slug!r}.") from error
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{slug}: {show_usd(wallet.balance_nanos)}")
