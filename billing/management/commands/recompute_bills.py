"""`manage.py recompute_bills`: every bill computed again from what is stored; a difference is exit 1."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Organization
from aggregator.lib import ids
from billing import recompute

_ALWAYS = date(1970, 1, 1)


class Command(BaseCommand):
    help = (
        "Compute the bill of every stored generation again, and what bills sum up of them; say each "
        "difference, and exit 1 when there is one."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--since", type=_day, default=_ALWAYS, help="a day, such as 2026-11-01 (UTC)")
        parser.add_argument("--organization", metavar="SLUG", help="of this one alone")

    def handle(self, *args: Any, **options: Any) -> None:
        since: date = options["since"]
        slug = options["organization"]
        found = None if slug is None else Organization.objects.filter(slug=slug).first()
        if slug is not None and found is None:
            raise CommandError(f"There is no organization {slug}.")
        number = None if found is None else found.pk
        first = ids.first_uuid7(datetime(since.year, since.month, since.day, tzinfo=UTC))
        calls, wrong_calls = self._told(recompute.generations(first, number))
        rows, wrong_rows = self._told(recompute.bills(since.replace(day=1), number))
        wrong = wrong_calls + wrong_rows
        self.stdout.write(
            f"{calls:,} generations and {rows:,} rows of bills computed again: "
            f"{wrong or 'no'} difference{'s' * (wrong != 1)}"
        )
        if wrong:
            sys.exit(1)

    def _told(self, chunks: Iterator[tuple[int, list[str]]]) -> tuple[int, int]:
        """How many were looked at, how many differ; each that differs is a line."""
        looked = differ = 0
        for number, sentences in chunks:
            looked, differ = looked + number, differ + len(sentences)
            for sentence in sentences:
                self.stdout.write(f"DIFFERS {sentence}")
        return looked, differ


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no day such as 2026-11-01") from error
