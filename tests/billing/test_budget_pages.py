"""The pages of budgets: who sees what, how full each is, what is typed there, and what people were told."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from django.test import Client

from accounts.core import roles
from accounts.models import Key, Membership, User
from aggregator.lib import clock
from billing import limits, low_credit
from billing.core import budgets
from billing.models import Budget, BudgetAlert
from tests.billing import books
from tests.billing.looking import DOLLAR, look

pytestmark = pytest.mark.django_db

NEW = {"kind": "organization", "window": "month", "limit": "100", "thresholds": "50, 80, 100"}


@pytest.fixture
def people(shop):
    """Owner and member of one shop, and the owner of another."""
    other = books.make_organization("other", usd="0")
    return {
        name: _person(name, organization, role)
        for name, organization, role in (
            ("owner", shop, roles.OWNER),
            ("ada", shop, roles.MEMBER),
            ("ben", shop, roles.MEMBER),
            ("stranger", other, roles.OWNER),
        )
    }


def _person(name: str, organization, role: str) -> User:
    user = User.objects.create(email=f"{name}@example.com")
    Membership.objects.create(organization=organization, user=user, role=role)
    return user


@pytest.fixture
def browse(_client: Client, people):
    def of(name: str) -> Client:
        _client.force_login(people[name])
        return _client

    return of


def budget(shop, kind="organization", window="month", dollars=10, **more) -> Budget:
    return limits.set_budget(shop, kind=kind, window=window, limit_nanos=dollars * DOLLAR, by="test", **more)


def call(shop, dollars: str, *, user=None, end_user="", **limited) -> Key:
    key = books.make_key(shop, f"key of {user}")
    Key.objects.of(shop).filter(pk=key.pk).update(created_by=user, **limited)
    nanos = int(float(dollars) * DOLLAR)
    books.deliver(
        key,
        books.make_price(f"{key.public_id}:acme/swift"),
        at=datetime.now(tz=UTC),
        charge_nanos=nanos,
        base_nanos=nanos,
        end_user=end_user,
    )
    return key


def told(shop, account: str, percent: int = 80) -> None:
    BudgetAlert.objects.create(
        organization=shop, account=account, percent=percent, used_nanos=8 * DOLLAR, limit_nanos=10 * DOLLAR
    )


# ── What is seen ─────────────────────────────────────────────────────────────────────────────────


def test_without_any_budget_the_page_says_what_one_is(browse, shop):
    said = look(browse("owner"), "/budgets")

    assert "No budget yet" in said and "a call that could go over it is refused before it starts" in said
    assert "Set the first budget" in said
    assert "Nothing limits your calls" in look(browse("ada"), "/budgets")


def test_the_owner_sees_every_budget_how_full_it_is_and_until_when(browse, shop, people):
    budget(shop)
    budget(shop, "member", "week", 10)
    budget(shop, "member", "week", 50, member=people["ada"])
    budget(shop, "end_user", "day", 4)
    call(shop, "8.5", user=people["ben"], end_user="customer-1", limit_nanos=9 * DOLLAR)
    call(shop, "1", user=people["ada"])

    said = look(browse("owner"), "/budgets")

    for words in (
        *("All calls $10.00 a month $9.50 of $10.00 95 %, nearly used up", "ada@example.com $50.00 a week"),
        *("Every member each has it $10.00 a week ben@example.com $8.50 85 %, nearly used up",),
        *("1 at 80 % or more; the fullest are shown", "customer-1 $8.50 212 %, used up"),
        *("$8.50 of $9.00 94 %, nearly used up", "1 budget is used up: calls that count against it"),
        *(
            "3 more are used to 80 % or more",
            f"{budgets.window('day', clock.now()).ends_at:%-d %b %Y} 50, 80, 100 %",
        ),
    ):
        assert words in said, words


def test_a_member_sees_what_limits_them_and_nobody_elses_figures(browse, shop, people):
    budget(shop)
    budget(shop, "member", "week", 7)
    budget(shop, "end_user", "day", 4)
    call(shop, "6.5", user=people["ada"], limit_nanos=9 * DOLLAR)
    call(shop, "3.5", user=people["ben"], end_user="customer-1", limit_nanos=9 * DOLLAR)

    said = look(browse("ada"), "/budgets")

    assert "Shop" in said or "Acme" in said
    assert "not shown a month used up: calls are refused" in said
    assert "ada@example.com $7.00 a week $6.50 of $7.00 92 %" in said
    assert "$6.50 of $9.00 72 %" in said
    for hidden in ("ben@", "customer-1", "$10.00", "3.50", "New budget", "Low credit", "/budgets/bud_"):
        assert hidden not in said, hidden
    page = browse("ada").get("/budgets").content.decode()
    assert "bud_" not in page and "/budgets/new" not in page


def test_alerts_are_everybodys_to_the_owner_and_ones_own_to_a_member(browse, shop, people):
    key = call(shop, "1", user=people["ada"])
    at = f"{shop.public_id}/{people['ada'].pk}"
    told(shop, f"member:{at}:week:2026-11-23")
    told(shop, f"member:{at}1:week:2026-11-23", 50)
    told(shop, f"budget:{shop.public_id}:month:2026-11-01", 100)
    told(shop, f"key:{key.public_id}:total")
    told(shop, f"user:{shop.public_id}:day:2026-11-23:whoever:else", 0)

    seen = {name: look(browse(name), "/budgets/alerts") for name in ("owner", "ada", "ben", "stranger")}

    assert "whoever:else end user, a day refused a call $8.00 of $10.00" in seen["owner"]
    assert "a former member member, a week 50 %" in seen["owner"]
    assert seen["owner"].count("of $10.00") == 5
    assert "ada@example.com member, a week 80 %" in seen["ada"]
    assert seen["ada"].count("of $10.00") == 2
    assert "No alert" in seen["ben"] and "No alert" in seen["stranger"]
    assert look(browse("owner"), "/budgets").count("of $10.00") == 5


def test_many_alerts_go_on_over_pages(browse, shop):
    for day in range(60):
        told(shop, f"budget:{shop.public_id}:day:{datetime(2026, 1, 1 + day % 28):%Y-%m-%d}", day + 1)

    first = browse("owner").get("/budgets/alerts").content.decode()
    more = re.search(r'href="(\?[^"]*after=[^"]*)"', first)[1].replace("&amp;", "&")
    second = browse("owner").get(f"/budgets/alerts{more}").content.decode()

    assert (first.count("<tr>") - 1, second.count("<tr>") - 1) == (50, 10)
    assert "All alerts" in look(browse("owner"), "/budgets")


# ── What is typed ────────────────────────────────────────────────────────────────────────────────


def test_a_budget_is_set_changed_and_deleted(browse, shop, people):
    ada = Membership.objects.of(shop).get(user=people["ada"])
    owner = browse("owner")
    form = owner.get(f"/budgets/new?kind=member&member={ada.pk}").content.decode()
    assert re.search(rf'<option value="{ada.pk}" selected>ada@example.com', form)
    assert re.search(r'value="member"[^>]* checked', form)

    made = owner.post(
        "/budgets/new", {**NEW, "kind": "member", "member": str(ada.pk), "end_user": "left over"}
    )
    assert (made.status_code, made["Location"]) == (302, "/budgets")
    row = limits.live(shop.pk).get()
    assert (row.kind, row.member, row.end_user, row.window) == ("member", people["ada"], "", "month")
    assert (row.limit_nanos, row.thresholds, row.created_by) == (100 * DOLLAR, [50, 80, 100], people["owner"])
    assert "in force from the next call on" in look(owner, "/budgets")

    at = f"/budgets/{row.public_id}"
    assert "Budget of ada@example.com, a month" in look(owner, at)
    owner.post(at, {"limit": "$1,250.50", "thresholds": "90%"})
    row.refresh_from_db()
    assert (row.limit_nanos, row.thresholds) == (1250 * DOLLAR + DOLLAR // 2, [90])

    assert "Delete the budget of ada@example.com, a month?" in look(owner, f"{at}/delete")
    assert owner.post(f"{at}/delete").status_code == 302
    assert not limits.live(shop.pk).exists()
    assert owner.get(at).status_code == owner.post(f"{at}/delete").status_code == 404


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ({"limit": ""}, "This field is required"),
        ({"limit": "much"}, "Write an amount in dollars"),
        ({"limit": "-1"}, "Must lie between 0 and"),
        ({"thresholds": "half"}, "Write whole percentages"),
        ({"thresholds": "0, 50"}, "Must be at most 10 percentages from 1 to 100"),
        ({"kind": "key"}, "Select a valid choice"),
        ({"kind": "member", "member": "0"}, "Select a valid choice"),
        ({"window": "year"}, "Select a valid choice"),
        ({"kind": "end_user", "end_user": "a\x07b"}, "none of them control"),
    ],
)
def test_what_cannot_be_is_said_at_its_field_and_nothing_typed_is_lost(browse, shop, typed, says):
    answer = browse("owner").post("/budgets/new", {**NEW, "limit": "77.5", **typed})

    page = answer.content.decode()
    assert answer.status_code == 422
    assert says in page
    assert "limit" in typed or 'value="77.5"' in page
    assert not Budget.objects.of(shop).exists()


def test_a_second_budget_of_the_same_is_refused(browse, shop):
    budget(shop)

    answer = browse("owner").post("/budgets/new", NEW)

    assert answer.status_code == 422
    assert "There is such a budget already: change that one." in answer.content.decode()


def test_nobody_but_owners_and_admins_changes_any_and_nobody_those_of_others(browse, shop):
    row = budget(shop)
    paths = ("/budgets/new", f"/budgets/{row.public_id}", f"/budgets/{row.public_id}/delete")
    for path in (*paths, "/budgets/low-credit"):
        assert browse("ada").post(path, NEW).status_code == 403, path
    for path in paths[1:]:
        assert (
            browse("stranger").get(path).status_code == browse("stranger").post(path, NEW).status_code == 404
        )
    assert "$10.00" not in look(browse("stranger"), "/budgets")

    row.refresh_from_db()
    assert (row.limit_nanos, row.deleted_at) == (10 * DOLLAR, None)


def test_low_credit_is_set_and_says_how_it_stands(browse, shop):
    owner = browse("owner")
    assert "As it stands: below $0.20. $1.00 is left now." in look(owner, "/budgets")

    wrong = owner.post("/budgets/low-credit", {"is_on": "on", "threshold": "0"})
    assert wrong.status_code == 422
    assert "Write an amount above zero" in wrong.content.decode()
    owner.post("/budgets/low-credit", {"is_on": "on", "threshold": "12.5"})
    assert low_credit.of(shop.pk).threshold_nanos == 12_500_000_000
    assert "As it stands: below $12.50." in look(owner, "/budgets")
    owner.post("/budgets/low-credit", {"threshold": ""})
    assert low_credit.of(shop.pk).below_nanos is None
    assert "As it stands, nobody is told." in look(owner, "/budgets")


def test_keys_and_members_lead_to_budgets(browse, shop, people):
    call(shop, "1", user=people["owner"])
    ada = Membership.objects.of(shop).get(user=people["ada"])

    assert 'href="/budgets"' in browse("owner").get("/keys").content.decode()
    members = browse("owner").get("/organization/members").content.decode()
    assert f"/budgets/new?kind=member&amp;member={ada.pk}" in members
    assert "/budgets/new" not in browse("ada").get("/organization/members").content.decode()
