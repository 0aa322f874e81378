"""`manage.py sync_catalog`: bring the database to what the catalog files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from routing import catalog, sync


class Command(BaseCommand):
    help = "Load the catalog files and the price list into the database. Safe to run again and again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--folder", type=Path, default=catalog.FOLDER, help="where the TOML files lie")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = sync.sync(options["folder"])
        except catalog.CatalogError as error:
            raise CommandError(str(error)) from error
        for line in [*report.refused, *report.waiting]:
            self.stderr.write(line)
        if options["verbosity"] > 1 or len(report.changes) <= 20:
            for line in report.changes:
                self.stdout.write(line)
        changed = f"{len(report.changes)} changes" if report.changes else "nothing changed"
        self.stdout.write(f"The catalog is up to date: {changed}.")
