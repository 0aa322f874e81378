"""`manage.py close_month [YYYY-MM]`: post the rebates of a month and show the margin that it left."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing import rebates
from billing.core.money import show_usd


class Command(BaseCommand):
    help = "Close a month, once for each organization however often it is run; without a month, the last."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("month", metavar="YYYY-MM", nargs="?")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            month = rebates.last_month()
            if options["month"]:
                month = datetime.strptime(options["month"], "%Y-%m").date()  # noqa: DTZ007 (a month, no instant)
            closed = rebates.close_month(month)
        except ValueError as error:
            raise CommandError(str(error)) from error
        found = rebates.margin(month)
        self.stdout.write(f"{month:%Y-%m}: {closed} closed now, {found.organizations} in all")
        for name, amount in found.amounts.items():
            self.stdout.write(f"{name:<15} {show_usd(amount)}")
