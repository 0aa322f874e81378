"""What operators do with wallets and alerts in the admin, and what they see there."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from django.apps import apps
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client, RequestFactory
from django.urls import reverse

from accounts.models import AuditEntry, User
from billing import alerts, freezing, plans
from billing.models import (
    AgreedTerms,
    Alert,
    AutoTopUp,
    CreditLot,
    Dispute,
    MonthClose,
    Posting,
    Refund,
    StripeInvoice,
    TopUp,
    Wallet,
)
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


def test_an_operator_resolves_an_alert_and_who_may_only_look_does_not(operator):
    for subject in ("dp_1", "dp_2"):
        alerts.raise_alert("dispute", subject, f"{subject} is disputed.")
    first, second = alerts.open_alerts()
    page = reverse("admin:billing_alert_changelist")
    chosen = {"action": "resolve", "_selected_action": [first.pk]}
    looking = Client()
    viewer = User.objects.create_user(email="viewer@example.com", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_alert"))
    looking.force_login(viewer)

    looking.post(page, chosen)
    assert len(alerts.open_alerts()) == 2
    assert "dp_1 is disputed." in looking.get(page).content.decode()

    assert operator.post(page, chosen).status_code == 302
    assert alerts.open_alerts() == [second]


def test_everything_that_stands_for_money_can_be_looked_at_and_nothing_of_it_changed(operator, organization):
    top_up = TopUp.objects.create(organization=organization, kind="checkout", cents=2000)
    AutoTopUp.objects.create(organization=organization, threshold_nanos=1, cents=2000, monthly_cap_cents=5000)
    Refund.objects.create(organization=organization, top_up=top_up, cents=1234, reason="operator")
    Dispute.objects.create(
        organization=organization, stripe_id="dp_1", charge_id="ch_1", cents=77, status="won"
    )
    shown = {}
    for model in apps.get_app_config("billing").get_models():
        if model in site._registry:
            name = f"admin:billing_{model._meta.model_name}"
            shown[model] = operator.get(reverse(f"{name}_changelist"))
            assert shown[model].status_code == 200
            assert operator.get(reverse(f"{name}_add")).status_code == 403

    assert {Alert, TopUp, Refund, Dispute, CreditLot, StripeInvoice} <= shown.keys()
    assert "$12.34" in shown[Refund].content.decode() and "$0.77" in shown[Dispute].content.decode()


def test_no_operator_changes_or_deletes_a_row_of_money(operator, organization):
    """Whichever models there are: each is looked at alone. What operators do, they do by actions."""
    operator.get("/admin/")
    request = RequestFactory().get("/admin/")
    request.user = User.objects.get(email="operator@example.com")

    for model in apps.get_app_config("billing").get_models():
        if model in site._registry:
            admin = site._registry[model]
            allowed = (admin.has_add_permission, admin.has_change_permission, admin.has_delete_permission)
            assert [may(request) for may in allowed] == [False] * 3, model
            assert "delete_selected" not in admin.get_actions(request), model
    wallet = page("change", organization)
    assert operator.post(wallet, {"balance_nanos": "1"}).status_code == 403
    assert operator.post(page("delete", organization), {"post": "yes"}).status_code == 403


def grant_form(operator, organization, **changes):
    form = operator.get(page("grant", organization)).context["form"]
    return {"nanos": "12.50", "note": "an outage of ours", "once": form["once"].value(), **changes}


def test_an_operator_grants_credit_once_with_a_reason_that_the_customer_reads(operator, organization):
    before = Wallet.objects.of(organization).get().balance_nanos
    form = grant_form(operator, organization, expires_at="2999-01-31")

    answers = [operator.post(page("grant", organization), form) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [302, 302]
    assert Wallet.objects.of(organization).get().balance_nanos == before + 12_500_000_000
    lot = CreditLot.objects.of(organization).get(expires_at__isnull=False)
    assert (lot.kind, lot.nanos, lot.expires_at.date()) == ("promotion", 12_500_000_000, date(2999, 1, 31))
    entry = AuditEntry.objects.of(organization).get(verb="credit.granted", actor="user:operator@example.com")
    assert entry.detail["note"] == "an outage of ours"
    assert LogEntry.objects.filter(change_message__contains="granted $12.5").exists()
    assert any(row.note == "an outage of ours" for row in Posting.objects.filter(kind="grant"))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("nanos", "500.01", "at most $500"),
        ("nanos", "0", "more than nothing"),
        ("nanos", "-5", "more than nothing"),
        ("nanos", "", "This field is required"),
        ("note", "", "This field is required"),
        ("expires_at", "2020-01-01", "is past"),
    ],
)
def test_a_grant_that_is_too_much_or_has_no_reason_is_not_given(operator, organization, field, value, said):
    before = Wallet.objects.of(organization).get().balance_nanos

    answer = operator.post(page("grant", organization), grant_form(operator, organization, **{field: value}))

    assert answer.status_code == 200 and said in answer.content.decode()
    assert Wallet.objects.of(organization).get().balance_nanos == before


def test_who_may_not_change_wallets_grants_nothing(organization):
    looker = User.objects.create_user("looker@example.com", "a long password 42", is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_wallet"))
    client = Client()
    client.force_login(looker)

    assert client.get(page("grant", organization)).status_code in (302, 403)
    assert "Grant credit" not in client.get(page("change", organization)).content.decode()
