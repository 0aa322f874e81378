"""What operators do with wallets in the admin, and what they see of closed months."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, User
from billing import freezing, plans
from billing.models import AgreedTerms, MonthClose, Wallet
from tests.billing import books

pytestmark = pytest.mark.django_db(transaction=True)

AGREED = {
    "plan": "production",
    "markup": "2.5",
    "monthly_nanos": "500",
    "volume_discount": "7",
    "discount_threshold_nanos": "5000",
    "discount_basis": "base",
    "credit_limit_nanos": "2000.50",
    "postpaid": "on",
    "days_until_due": "30",
    "note": "as of the call",
}


@pytest.fixture
def organization():
    return books.make_organization()


@pytest.fixture
def operator(organization):
    client = Client()
    client.force_login(
        User.objects.create_superuser(email="operator@example.com", password="a-long-password-1")
    )
    return client


def page(name, organization):
    return reverse(f"admin:billing_wallet_{name}", args=[organization.pk])


def test_an_operator_agrees_terms_and_sees_them_again(operator, organization):
    answer = operator.post(page("agree", organization), AGREED)

    assert answer.status_code == 302, answer.context["form"].errors
    row = AgreedTerms.objects.of(organization).get(version=2)
    assert (row.markup, row.volume_discount) == (Decimal("0.025"), Decimal("0.07"))
    assert (row.monthly_nanos, row.discount_threshold_nanos) == (500 * 10**9, 5000 * 10**9)
    assert (row.credit_limit_nanos, row.postpaid, row.days_until_due) == (2000_500_000_000, True, 30)
    assert (row.agreed_by, row.note) == ("user:operator@example.com", "as of the call")
    assert AuditEntry.objects.of(organization).get(verb="plan.set").detail["note"] == "as of the call"
    initial = operator.get(page("agree", organization)).context["form"].initial
    assert (initial["markup"], initial["credit_limit_nanos"]) == ("2.5", "2000.5")
    assert operator.get(page("change", organization)).status_code == 200


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("markup", "", "needs an agreed mark-up"),
        ("markup", "250", "from 0 to 1"),
        ("credit_limit_nanos", "", "postpaid needs a credit limit"),
        ("monthly_nanos", "1e3", "is not an amount"),
        ("plan", "business", "are published"),
        ("note", "", "This field is required"),
    ],
)
def test_terms_that_make_no_sense_are_said_on_the_page(operator, organization, field, value, said):
    answer = operator.post(page("agree", organization), {**AGREED, field: value})

    assert answer.status_code == 200
    assert said in answer.content.decode()
    assert plans.terms(organization.pk).version == 1


def test_an_operator_freezes_and_thaws_with_a_reason(operator, organization):
    operator.post(page("freeze", organization), {"change": "freeze operator", "note": "mining"})
    assert Wallet.objects.of(organization).get().frozen_because == "operator"
    assert AuditEntry.objects.of(organization).get(verb="organization.frozen").detail["note"] == "mining"
    freezing.freeze(organization.pk, "dispute", by="test")

    shown = operator.get(page("freeze", organization)).content.decode()
    operator.post(page("freeze", organization), {"change": "thaw operator", "note": "settled"})

    assert "operator,dispute" in shown
    assert plans.terms(organization.pk).frozen == "dispute"


def test_who_may_only_look_changes_no_terms(organization):
    client = Client()
    client.force_login(User.objects.create_user(email="viewer@example.com", is_staff=True))

    for name in ("agree", "freeze"):
        assert client.get(page(name, organization)).status_code == 403
        assert client.post(page(name, organization), AGREED).status_code == 403
    assert plans.terms(organization.pk).version == 1


def test_closed_months_are_listed_with_their_sums(operator, organization):
    other = books.make_organization("other")
    for owner, charged in ((organization, 1500), (other, 500)):
        amounts = {"charged_nanos": charged * 10**9, "base_nanos": 10**9, "loss_nanos": 0, "margin_nanos": 7}
        MonthClose.objects.create(organization=owner, month=date(2026, 5, 1), **amounts)

    shown = operator.get(reverse("admin:billing_monthclose_changelist")).content.decode()

    assert "2026-05" in shown
    assert "$2,000.00" in shown
    assert operator.get(reverse("admin:billing_agreedterms_changelist")).status_code == 200
