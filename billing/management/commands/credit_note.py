"""`manage.py credit_note NUMBER --amount USD --reason …`: correct an issued document."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from billing.core.money import parse_usd, show_usd
from billing.documents import credit_notes
from billing.models import Document


class Command(BaseCommand):
    help = (
        "Issue a credit note for a statement or an invoice, and give its amount, with its part of the tax, to"
        " the wallet of the organization. An invoice that Stripe still collects stays as it is: what is"
        " credited counts against the months after it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("number", metavar="NUMBER", help="of the document that is corrected")
        parser.add_argument("--amount", required=True, metavar="USD", help="without tax, such as 12.50")
        parser.add_argument("--reason", required=True, help="the customer reads it")
        parser.add_argument(
            "--once", type=UUID, metavar="UUID", help="a name for this credit note: run again, it is the same"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        number = options["number"]
        try:
            nanos = parse_usd(options["amount"])
            note = credit_notes.issue(number, nanos, reason=options["reason"], once=options["once"])
        except Document.DoesNotExist as error:
            raise CommandError(f"There is no document {number!r}.") from error
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{note.number} corrects {number} by {show_usd(note.total_nanos)}")
