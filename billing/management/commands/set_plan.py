"""`manage.py set_plan ORG PLAN`: in force within a second."""

from __future__ import annotations

from argparse import ArgumentParser
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Organization
from billing import plans
from billing.models import Wallet


class Command(BaseCommand):
    help = "Give an organization a plan. Calls that begin from now on pay by it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("organization", metavar="ORG_SLUG")
        parser.add_argument("plan", metavar="PLAN", help="free, pro, business or production")
        parser.add_argument("--markup", metavar="2%%|0.02", help="the agreed mark-up of the production plan")

    def handle(self, *args: Any, **options: Any) -> None:
        slug = options["organization"]
        markup = None if options["markup"] is None else _fraction(options["markup"])
        try:
            terms = plans.set_plan(slug, options["plan"], markup=markup)
        except Organization.DoesNotExist as error:
            raise CommandError(f"There is no organization {slug!r}.") from error
        except Wallet.DoesNotExist as error:
            raise CommandError(f"{slug} has no wallet yet.") from error
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{slug}: {terms.plan}, mark-up {terms.markup.scaleb(2).normalize():f} %")


def _fraction(text: str) -> Decimal:
    """`2%` and `0.02` are the same; `2` could be either and is refused."""
    try:
        value = Decimal(text.removesuffix("%").strip())
    except InvalidOperation as error:
        raise CommandError(f"{text!r} is not a mark-up, such as 2% or 0.02") from error
    if text.endswith("%"):
        return value.scaleb(-2)
    if value >= 1:
        raise CommandError(f"Write {text}% for {text} per cent, or a fraction below 1.")
    return value
