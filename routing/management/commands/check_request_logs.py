"""`manage.py check_request_logs`: what should be gone is gone, what is kept opens, in its place alone."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from routing import log_proofs


class Command(BaseCommand):
    help = "Prove that no deleted or aged request log is left, and that what is kept can be opened."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--organization", default="", help="the slug of one; without it, all")
        parser.add_argument("--open", type=int, default=100, help="so many rows of each are opened")

    def handle(self, *args: Any, **options: Any) -> None:
        found = log_proofs.check(options["organization"], most=options["open"])
        for line in found.problems:
            self.stderr.write(line)
        if found.problems:
            raise CommandError(f"{len(found.problems)} problems with request logs.")
        self.stdout.write(
            f"Request logs of {found.organizations} organizations: {found.rows} rows, {found.opened} opened, "
            f"{found.destroyed} destroyed keys open nothing."
        )
