"""`manage.py abandon_spool [ID] [--yes]`: list the open spools, look at one, close one whose disk is lost."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing import open_spools
from billing.core.money import show_usd
from billing.open_spools import OpenSpool


class Command(BaseCommand):
    help = (
        "Close the spool of a process whose disk will never come back. What it had not written to PostgreSQL "
        "is never charged. Without --yes it only says what is known; without ID, of every open spool."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", metavar="ID", nargs="?", help="as the log names an absent spool")
        parser.add_argument("--yes", action="store_true", help="do it; it cannot be undone")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["id"] is None:
            if options["yes"]:
                raise CommandError("Say which spool.")
            for spool in open_spools.listed():
                self.stdout.write(_line(spool))
            return
        try:
            spool = open_spools.find(options["id"])
            self.stdout.write(_line(spool))
            if not options["yes"]:
                raise CommandError("Nothing was done: say --yes to abandon it.")
            open_spools.abandon(spool.id)
        except (LookupError, ValueError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write("Abandoned.")


def _line(spool: OpenSpool) -> str:
    here = ", its folder is here" if spool.folder else ""
    return (
        f"{spool.id}: process {spool.pid} on {spool.host or 'an unknown host'}, "
        f"started {spool.started_at:%Y-%m-%d %H:%M:%S} UTC, "
        f"last heard of {spool.seen_at:%Y-%m-%d %H:%M:%S} UTC{here}; "
        f"{show_usd(spool.tallied)} of {spool.organizations} organizations reached PostgreSQL through it"
    )
