"""Plans and wallets: what an organization pays on top, and the credit it begins with."""

from __future__ import annotations

import threading
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from accounts.models import AuditEntry, Organization
from billing import plans, posting, wallets
from billing.models import Plan, Posting, Wallet
from tests.billing import books

pytestmark = pytest.mark.django_db(transaction=True)


def command(*arguments):
    out = StringIO()
    call_command(*arguments, stdout=out, skip_checks=True)
    return out.getvalue().strip()


@pytest.mark.parametrize(
    ("slug", "markup", "monthly", "discount"),
    [
        ("free", "0.10", 0, "0"),
        ("pro", "0.05", 9_990_000_000, "0.02"),
        ("business", "0.03", 99_000_000_000, "0.05"),
    ],
)
def test_the_published_plans_are_there(slug, markup, monthly, discount):
    plan = plans.current(slug)

    assert (plan.markup, plan.monthly_nanos) == (Decimal(markup), monthly)
    assert plan.volume_discount == Decimal(discount)


def test_production_is_custom():
    plan = plans.current("production")

    assert (plan.markup, plan.monthly_nanos, plan.volume_discount) == (None, None, None)


def test_seeding_again_changes_nothing():
    plans.seed()

    assert Plan.objects.count() == 4


def test_a_wallet_is_opened_once_on_the_free_plan_with_the_starting_credit(settings):
    settings.STARTING_CREDIT_USD = Decimal("2.5")
    organization = Organization.objects.create(slug="new", name="New")

    wallet = wallets.open_wallet(organization.pk)
    settings.STARTING_CREDIT_USD = Decimal(7)
    again = wallets.open_wallet(organization.pk)

    assert (wallet.plan, wallet.balance_nanos) == ("free", 2_500_000_000)
    assert again.balance_nanos == 2_500_000_000
    assert plans.terms(organization.pk) == plans.Terms(organization.pk, "free", Decimal("0.10"), 1)


def test_without_a_starting_credit_nothing_is_posted(settings):
    settings.STARTING_CREDIT_USD = Decimal(0)
    organization = Organization.objects.create(slug="new", name="New")

    assert wallets.open_wallet(organization.pk).balance_nanos == 0
    assert not Posting.objects.exists()


def test_a_wallet_opened_by_many_at_once_is_credited_once():
    organization = Organization.objects.create(slug="new", name="New")

    def work():
        wallets.open_wallet(organization.pk)
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert books.balance(organization) == 1_000_000_000
    assert Posting.objects.count() == 1


def test_a_change_of_plan_raises_the_version_and_is_audited():
    organization = books.make_organization()

    terms = plans.set_plan("acme", "business")

    assert terms == plans.terms(organization.pk)
    assert (terms.plan, terms.markup, terms.version) == ("business", Decimal("0.03"), 2)
    assert plans.set_plan("acme", "business").version == 2
    assert AuditEntry.objects.of(organization).filter(verb="plan.set").count() == 1


def test_a_change_of_plan_leaves_what_was_delivered_as_it_was():
    organization = books.make_organization()
    key, price = books.make_key(organization), books.make_price()
    before = books.balance(organization)
    call = books.deliver(key, price)

    plans.set_plan("acme", "pro")
    posting.post_generations()

    assert books.balance(organization) == before - call.charge_nanos


@pytest.mark.parametrize(
    ("plan", "markup"),
    [
        ("production", None),
        ("production", "1.5"),
        ("production", "-0.1"),
        ("production", "0.0000001"),
        ("pro", "0.01"),
    ],
)
def test_terms_that_make_no_sense_are_refused(plan, markup):
    books.make_organization()

    with pytest.raises(plans.BadTerms):
        plans.set_plan("acme", plan, markup=None if markup is None else Decimal(markup))
    assert Wallet.unscoped.get().plan == "free"


def test_a_new_row_of_a_plan_is_for_those_who_take_it_later():
    organization = books.make_organization()
    Plan.objects.create(slug="free", name="Free", markup=Decimal("0.12"), monthly_nanos=0)

    assert plans.terms(organization.pk).markup == Decimal("0.10")
    assert plans.set_plan("acme", "free").markup == Decimal("0.12")


def test_the_grant_command_prints_the_new_balance():
    organization = books.make_organization(usd="0")

    assert command("grant", "acme", "12.50", "--note", "a present") == "acme: $13.50"
    assert books.balance(organization) == 13_500_000_000
    assert Posting.objects.get(kind="grant").note == "a present"
    assert AuditEntry.objects.of(organization).get().detail == {"usd": "12.5", "note": "a present"}


@pytest.mark.parametrize("amount", ["0", "1e2", "0.0000000001", "free"])
def test_an_amount_that_is_no_grant_is_refused(amount):
    organization = books.make_organization(usd="0")

    with pytest.raises(CommandError):
        command("grant", "acme", amount)
    assert books.balance(organization) == 1_000_000_000


def test_commands_name_an_organization_that_is_not_there():
    with pytest.raises(CommandError, match="nobody"):
        command("grant", "nobody", "1")
    with pytest.raises(CommandError, match="nobody"):
        command("set_plan", "nobody", "pro")


def test_the_set_plan_command_takes_a_plan_and_for_production_a_mark_up():
    books.make_organization()

    assert command("set_plan", "acme", "pro") == "acme: pro, mark-up 5 %"
    assert command("set_plan", "acme", "production", "--markup", "2.5%") == "acme: production, mark-up 2.5 %"
    assert command("set_plan", "acme", "production", "--markup", "0.02") == "acme: production, mark-up 2 %"
    for arguments in (("production",), ("gold",), ("production", "--markup", "2"), ("pro", "--markup", "2%")):
        with pytest.raises(CommandError):
            command("set_plan", "acme", *arguments)
