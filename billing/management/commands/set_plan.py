"""`manage.py set_plan ORG PLAN`: in force within a second. The production plan takes what was agreed."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Organization
from billing import plans
from billing.core.money import parse_usd, show_usd
from billing.models import Wallet


class Command(BaseCommand):
    help = "Give an organization a plan. Calls that begin from now on pay by it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("organization", metavar="ORG_SLUG")
        parser.add_argument("plan", metavar="PLAN", help="free, pro, business or production")
        agreed = parser.add_argument_group("agreed", "Of the production plan alone, and stated whole.")
        agreed.add_argument("--markup", metavar="2%%|0.02")
        agreed.add_argument("--monthly", metavar="USD", help="the monthly fee")
        agreed.add_argument("--discount", metavar="2%%|0.02", help="of a month's usage above the threshold")
        agreed.add_argument("--threshold", metavar="USD", help="of a month, for the discount")
        agreed.add_argument("--basis", choices=plans.BASES, help="what the discount is measured on")
        agreed.add_argument("--credit-limit", metavar="USD", help="how far below zero the balance may go")
        agreed.add_argument("--postpaid", action="store_true", help="invoice the month after its end")
        agreed.add_argument("--days-until-due", type=int, metavar="DAYS", help="0 charges the card at once")
        agreed.add_argument("--note", help="kept with the terms and in the audit log")

    def handle(self, *args: Any, **options: Any) -> None:
        slug = options["organization"]
        try:
            terms = plans.set_plan(slug, options["plan"], **_agreement(options))
        except Organization.DoesNotExist as error:
            raise CommandError(f"There is no organization {slug!r}.") from error
        except Wallet.DoesNotExist as error:
            raise CommandError(f"{slug} has no wallet yet.") from error
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{slug}: {_shown(terms)}")


def _agreement(options: dict[str, Any]) -> plans.Agreement:
    """What was said on the command line. Raises CommandError and ValueError."""
    said = {
        name: read(options[option])
        for name, (option, read) in _READ.items()
        if options[option] is not None and options[option] is not False
    }
    return cast(plans.Agreement, said)


def _shown(terms: plans.Terms) -> str:
    limit = f", credit limit {show_usd(terms.credit_limit_nanos)}" if terms.credit_limit_nanos else ""
    return (
        f"{terms.plan}, mark-up {terms.markup.scaleb(2).normalize():f} %{limit}"
        f"{', postpaid' if terms.postpaid else ''}"
    )


def _fraction(text: str) -> Decimal:
    """`2%` and `0.02` are the same; `2` could be either and is refused."""
    try:
        value = Decimal(text.removesuffix("%").strip())
    except InvalidOperation as error:
        raise CommandError(f"{text!r} is not a fraction, such as 2% or 0.02") from error
    if text.endswith("%"):
        return value.scaleb(-2)
    if value >= 1:
        raise CommandError(f"Write {text}% for {text} per cent, or a fraction below 1.")
    return value


_READ: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "markup": ("markup", _fraction),
    "monthly_nanos": ("monthly", parse_usd),
    "volume_discount": ("discount", _fraction),
    "discount_threshold_nanos": ("threshold", parse_usd),
    "discount_basis": ("basis", str),
    "credit_limit_nanos": ("credit_limit", parse_usd),
    "postpaid": ("postpaid", bool),
    "days_until_due": ("days_until_due", int),
    "note": ("note", str),
}
"""What of an agreement → the option that says it, and how it is read."""
