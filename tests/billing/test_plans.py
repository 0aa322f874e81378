"""Plans and wallets: what an organization pays on top, and the credit it begins with."""

from __future__ import annotations

import threading
from decimal import Decimal
from importlib import import_module
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections

from accounts.models import AuditEntry, Organization
from billing import plans, posting, wallets
from billing.models import AgreedTerms, Plan, Posting, Wallet
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


AGREED = {
    "markup": Decimal("0.02"),
    "monthly_nanos": 500_000_000_000,
    "volume_discount": Decimal("0.075"),
    "discount_threshold_nanos": 5_000_000_000_000,
    "discount_basis": "base",
    "credit_limit_nanos": 2_000_000_000_000,
    "postpaid": True,
    "days_until_due": 30,
}


def test_what_is_agreed_with_an_organization_is_written_down_with_who_agreed_it():
    organization = books.make_organization()

    terms = plans.set_plan("acme", "production", by="till", note="as of the call", **AGREED)

    row = AgreedTerms.objects.of(organization).get(version=terms.version)
    assert {name: getattr(row, name) for name in AGREED} == AGREED
    assert (row.plan, row.agreed_by, row.note) == ("production", "system:till", "as of the call")
    assert terms == plans.terms(organization.pk)
    assert (terms.credit_limit_nanos, terms.postpaid) == (2_000_000_000_000, True)
    assert Wallet.objects.of(organization).get().credit_limit_nanos == 2_000_000_000_000


def test_terms_are_agreed_anew_when_anything_of_them_changes_and_only_then():
    organization = books.make_organization()
    for agreed in (AGREED, AGREED, {**AGREED, "volume_discount": Decimal("0.08")}):
        terms = plans.set_plan("acme", "production", **agreed)

    versions = AgreedTerms.objects.of(organization).order_by("version").values_list("version", flat=True)
    assert (list(versions), terms.version) == ([1, 2, 3], 3)


def test_every_wallet_begins_with_the_terms_of_the_free_plan_written_down():
    organization = books.make_organization()

    row = AgreedTerms.objects.of(organization).get()

    assert (row.version, row.plan, row.markup, row.agreed_by) == (
        1,
        "free",
        Decimal("0.1"),
        "system:fairlead",
    )


def test_a_published_plan_leaves_nothing_of_an_agreement():
    organization = books.make_organization()
    plans.set_plan("acme", "production", **AGREED)

    terms = plans.set_plan("acme", "pro")

    row = AgreedTerms.objects.of(organization).get(version=3)
    assert (row.monthly_nanos, row.volume_discount) == (9_990_000_000, Decimal("0.02"))
    assert (row.discount_threshold_nanos, row.days_until_due) == (1_000_000_000_000, 0)
    assert (terms.credit_limit_nanos, terms.postpaid) == (0, False)
    assert Wallet.objects.of(organization).get().credit_limit_nanos == 0


@pytest.mark.parametrize("said", [{name: said} for name, said in AGREED.items()])
def test_a_published_plan_takes_no_agreement(said):
    books.make_organization()

    with pytest.raises(plans.BadTerms):
        plans.set_plan("acme", "business", **said)


@pytest.mark.parametrize(
    "said",
    [
        {"volume_discount": Decimal(1)},
        {"volume_discount": Decimal("-0.1")},
        {"monthly_nanos": -1},
        {"discount_threshold_nanos": -1},
        {"discount_basis": "gross"},
        {"credit_limit_nanos": -1},
        {"credit_limit_nanos": 2**52},
        {"credit_limit_nanos": 0},
        {"days_until_due": 181},
        {"postpaid": False},
    ],
)
def test_an_agreement_out_of_bounds_is_refused(said):
    books.make_organization()

    with pytest.raises(plans.BadTerms):
        plans.set_plan("acme", "production", **{**AGREED, **said})
    assert Wallet.unscoped.get().plan == "free"


def test_the_migration_writes_down_the_terms_of_wallets_that_are_there():
    organization = books.make_organization()
    plans.set_plan("acme", "business")
    write_down = import_module("billing.migrations.0009_terms_of_wallets_that_are_there")._WRITE_DOWN
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE billing_agreedterms")
        cursor.execute(write_down)
        cursor.execute(write_down)

    row, wallet = AgreedTerms.objects.of(organization).get(), Wallet.objects.of(organization).get()
    assert (row.version, row.plan, row.markup) == (2, "business", Decimal("0.03"))
    assert (row.volume_discount, row.starts_at) == (Decimal("0.05"), wallet.opened_at)
    assert plans.set_plan("acme", "business").version == 2


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


def test_the_set_plan_command_takes_all_that_was_agreed():
    organization = books.make_organization()
    said = ["--markup", "2%", "--monthly", "500", "--discount", "7.5%", "--threshold", "5000"]
    said += ["--basis", "base", "--credit-limit", "2000", "--postpaid", "--days-until-due", "30"]

    shown = command("set_plan", "acme", "production", *said)

    assert shown == "acme: production, mark-up 2 %, credit limit $2,000.00, postpaid"
    row = AgreedTerms.objects.of(organization).get(version=2)
    assert {name: getattr(row, name) for name in AGREED} == AGREED
    for bad in (["--monthly", "1e3"], ["--discount", "5"], ["--credit-limit", "-1"]):
        with pytest.raises(CommandError):
            command("set_plan", "acme", "production", "--markup", "2%", *bad)
