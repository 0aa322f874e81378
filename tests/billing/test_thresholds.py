"""People are told when a budget passes a threshold: once a window, of their own, and without a storm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core import mail

from accounts.core import roles
from accounts.models import Membership, User, WebhookEvent
from aggregator.lib import kv
from billing import letters, limits, posting, refused, tasks, thresholds
from billing.core import budgets
from billing.models import BudgetAlert, Letter
from tests.billing import books, paying
from tests.billing.books import make_key, make_organization, make_price

pytestmark = pytest.mark.django_db(transaction=True)

DOLLAR = 10**9
MORNING = datetime(2026, 11, 23, 9, tzinfo=UTC)


@pytest.fixture
def clock():
    with time_machine.travel(MORNING, tick=False) as traveller:
        yield traveller


@pytest.fixture
def acme(clock):
    made = make_organization(usd="1000")
    person(made, "owner")
    return made


@pytest.fixture
def price(db):
    return make_price()


def person(organization, name: str, role: str = roles.OWNER) -> User:
    user = User.objects.create(email=f"{name}@{organization.slug}.example")
    Membership.objects.create(organization=organization, user=user, role=role)
    return user


def key_of(organization, user=None, **limited):
    made = make_key(organization, f"of {user.email if user else 'nobody'}")
    type(made).objects.of(organization).filter(pk=made.pk).update(created_by=user, **limited)
    made.refresh_from_db()
    return made


def spend(key, price, dollars: str, end_user: str = "") -> None:
    """A call of this charge, booked."""
    nanos = int(float(dollars) * DOLLAR)
    now = datetime.now(tz=UTC)
    books.deliver(key, price, at=now, charge_nanos=nanos, base_nanos=nanos, end_user=end_user)
    posting.post_generations()


def set_budget(organization, kind="organization", window="month", dollars=10, **more):
    return limits.set_budget(
        organization, kind=kind, window=window, limit_nanos=dollars * DOLLAR, by="test", **more
    )


def told(organization) -> list[tuple[str, int]]:
    rows = BudgetAlert.objects.of(organization).order_by("account", "percent")
    return [(row.account.split(":")[0], row.percent) for row in rows]


def events(organization) -> list[tuple[str, int]]:
    """By their percents: the clock stands still."""
    rows = WebhookEvent.objects.of(organization)
    return sorted(((row.type, row.data["percent"]) for row in rows), key=lambda row: row[1])


def letters_to(organization) -> list[str]:
    return sorted(Letter.objects.of(organization).values_list("kind", flat=True))


def sent(organization) -> list[tuple[list[str], str, str]]:
    mail.outbox.clear()
    letters.send_waiting()
    return [(each.to, each.subject, each.body) for each in mail.outbox]


def test_each_threshold_is_told_once_by_letter_and_by_event(clock, acme, price):
    set_budget(acme)
    key = key_of(acme)

    spend(key, price, "4.99")
    assert thresholds.look(None) == 0
    spend(key, price, "0.01")
    assert thresholds.look(None) == 1
    assert thresholds.look(None) == 0, "it was told"
    spend(key, price, "3")
    thresholds.look(None)
    spend(key, price, "2.5")
    thresholds.look(None)
    spend(key, price, "2.5")
    thresholds.look(None)

    assert told(acme) == [("budget", 50), ("budget", 80), ("budget", 100)]
    reached = "budget.threshold_reached"
    assert events(acme) == [(reached, 50), (reached, 80), ("budget.exceeded", 100)]
    assert letters_to(acme) == ["budget_exceeded", "budget_reached", "budget_reached"]


def test_a_letter_says_what_of_whom_how_much_until_when_and_what_comes(clock, acme, price):
    set_budget(acme)
    spend(key_of(acme), price, "8.25")
    thresholds.look(None)

    [(to, subject, body)] = sent(acme)
    assert to == ["owner@acme.example"]
    assert subject == "80 % of the budget of Acme is used"
    for words in (
        *("$8.25 of $10.00 a month is used by now (82 %), and $1.75 is left", "1 December 2026, 00:00 UTC"),
        *("At 100 % further calls are refused with the error organization_budget_exceeded", "/budgets"),
    ):
        assert words in body
    spend(key_of(acme), price, "1.75")
    thresholds.look(None)
    [(_, subject, body)] = sent(acme)
    assert subject == "Calls are refused: the budget of Acme is used up"
    assert "until it begins again on 1 December 2026, 00:00 UTC, or is raised" in body


def test_when_several_are_passed_at_once_there_is_one_letter_and_an_event_for_each(clock, acme, price):
    set_budget(acme)
    spend(key_of(acme), price, "11")

    assert thresholds.look(None) == 3
    assert letters_to(acme) == ["budget_exceeded"]
    assert [percent for _, percent in events(acme)] == [50, 80, 100]
    data = WebhookEvent.objects.of(acme).get(type="budget.exceeded").data
    assert data == {
        "budget": limits.live(acme.pk).get().public_id,
        "kind": "organization",
        "subject": "",
        "window": "month",
        "window_start": "2026-11-01T00:00:00Z",
        "resets_at": "2026-12-01T00:00:00Z",
        "percent": 100,
        "limit": "10",
        "used": "11",
        "left": "0",
    }


@pytest.mark.parametrize(
    ("window", "after"),
    [
        ("day", datetime(2026, 11, 24, tzinfo=UTC)),
        ("week", datetime(2026, 11, 30, tzinfo=UTC)),
        ("month", datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_a_new_window_is_told_of_anew_and_the_old_one_counts_no_more(clock, acme, price, window, after):
    set_budget(acme, window=window, thresholds=[80])
    key = key_of(acme)
    clock.move_to(after - timedelta(seconds=10))
    spend(key, price, "9")
    assert thresholds.look(None) == 1

    clock.move_to(after)
    assert thresholds.look(None) == 0
    spend(key, price, "7")
    assert thresholds.look(None) == 0, "7 of 10 in the new window"
    spend(key, price, "1")
    assert thresholds.look(None) == 1
    assert BudgetAlert.objects.of(acme).values("account").distinct().count() == 2


def test_what_never_begins_again_counts_for_ever(clock, acme, price):
    set_budget(acme, window="total", thresholds=[80])
    key = key_of(acme)
    spend(key, price, "4")
    clock.shift(timedelta(days=400))
    spend(key, price, "4")

    assert thresholds.look(None) == 1
    [(_, _, body)] = sent(acme)
    assert "it does not begin again by itself" in body


def test_a_raised_limit_is_told_of_anew_a_lowered_one_only_of_what_is_new(clock, acme, price):
    budget = set_budget(acme)
    key = key_of(acme)
    spend(key, price, "8")
    assert thresholds.look(None) == 2

    budget = limits.change(budget, limit_nanos=8 * DOLLAR, by="test")
    assert thresholds.look(None) == 1, "100 alone"
    limits.change(budget, limit_nanos=100 * DOLLAR, by="test")
    spend(key, price, "1")
    assert thresholds.look(None) == 0
    spend(key, price, "41")
    assert thresholds.look(None) == 1
    assert BudgetAlert.objects.of(acme).get(percent=50).limit_nanos == 100 * DOLLAR
    assert [percent for _, percent in events(acme)] == [50, 50, 80, 100]


def test_thresholds_are_the_budgets_own_and_none_is_silence(clock, acme, price):
    set_budget(acme, thresholds=[10, 95])
    set_budget(acme, window="day", thresholds=[])
    spend(key_of(acme), price, "9.5")

    assert thresholds.look(None) == 2
    assert [row.percent for row in BudgetAlert.objects.of(acme).order_by("percent")] == [10, 95]


def test_a_members_own_budget_stands_in_place_of_every_members_and_the_member_hears_of_it(clock, acme, price):
    ada, ben = person(acme, "ada", roles.MEMBER), person(acme, "ben", roles.MEMBER)
    set_budget(acme, "member", dollars=10, thresholds=[80])
    set_budget(acme, "member", dollars=100, thresholds=[80], member=ada)
    for user in (ada, ben, None):
        spend(key_of(acme, user), price, "9")

    assert thresholds.look(None) == 1
    [(to, subject, _)] = sent(acme)
    assert to == ["owner@acme.example", "ben@acme.example"]
    assert subject == "80 % of the budget of ben@acme.example in Acme is used"
    assert BudgetAlert.objects.of(acme).get().account == f"member:{acme.public_id}/{ben.pk}:month:2026-11-01"


def test_all_keys_of_a_member_count_together_and_a_keys_cap_by_itself(clock, acme, price):
    ada = person(acme, "ada", roles.MEMBER)
    set_budget(acme, "member", dollars=10, thresholds=[80])
    first = key_of(acme, ada, limit_nanos=5 * DOLLAR, limit_window="day")
    spend(first, price, "4.5")
    assert thresholds.look(None) == 1
    spend(key_of(acme, ada), price, "4")
    assert thresholds.look(None) == 1

    assert told(acme) == [("key", 80), ("member", 80)]
    (_, _, body), _ = sent(acme)
    assert "the spend limit of the key “of ada@acme.example” of Acme" in body
    assert "key_limit_exceeded" in body


def test_a_refusal_tells_of_the_end_before_the_limit_is_reached(clock, acme, price):
    set_budget(acme)
    spend(key_of(acme), price, "9.4")
    thresholds.look(None)
    assert told(acme) == [("budget", 50), ("budget", 80)]

    refuse(acme, limits.of_budgets(acme, limits.live(acme.pk), at=MORNING)[0].account)
    assert thresholds.look(None) == 1
    assert told(acme)[-1] == ("budget", 100)
    assert "what is left ($0.60) does not cover further calls" in sent(acme)[-1][2]
    refuse(acme, limits.of_budgets(acme, limits.live(acme.pk), at=MORNING)[0].account)
    assert thresholds.look(None) == 0, "once"


def test_a_call_that_asks_for_too_much_is_told_apart_and_leaves_the_end_to_be_told(clock, acme, price):
    set_budget(acme)
    key = key_of(acme)
    account = limits.of_budgets(acme, limits.live(acme.pk), at=MORNING)[0].account
    refuse(acme, account)

    assert thresholds.look(None) == 1
    [(_, subject, body)] = sent(acme)
    assert subject == "Calls are refused: the budget of Acme is too small for them"
    assert "$10.00 is left; yet a call was refused" in body
    assert events(acme) == [("budget.exceeded", 0)]
    spend(key, price, "10")
    thresholds.look(None)
    assert events(acme)[-1] == ("budget.exceeded", 100)


def test_a_mark_of_another_organization_or_of_a_budget_that_is_gone_tells_nobody(clock, acme, price):
    other = make_organization("other")
    budget = set_budget(acme)
    account = limits.of_budgets(acme, limits.live(acme.pk), at=MORNING)[0].account
    refuse(other, account)
    assert thresholds.look(None) == 0
    limits.delete(budget, by="test")
    refuse(acme, account)
    assert thresholds.look(None) == 0


def refuse(organization, account: str) -> None:
    """As a gateway does: noted at the refusal, told to the caches with its next turn."""
    label = budgets.named(account).window
    refused.note(budgets.Account(account, organization.public_id, organization.pk, window=label))
    pipeline = kv.cache().pipeline()
    marks = refused.tell(pipeline)
    pipeline.execute()
    refused.told(marks)


def test_a_wallet_that_refuses_leaves_no_mark():
    refused.note(budgets.wallet_account("acme", 1))

    assert refused.take() == []
    pipeline = kv.cache().pipeline()
    assert refused.tell(pipeline) == []


def test_many_end_users_are_summed_in_one_letter_an_hour(clock, acme, price):
    set_budget(acme, "end_user", "day", dollars=1)
    key = key_of(acme)
    for n in range(30):
        books.deliver(key, price, at=MORNING, charge_nanos=DOLLAR, base_nanos=DOLLAR, end_user=f"u{n:02}")
    spend(key, price, "0.6", end_user="half")

    assert thresholds.look(None) == 30 * 3 + 1
    [(to, subject, body)] = sent(acme)
    assert (to, subject) == (["owner@acme.example"], "31 budgets of Acme have reached their thresholds")
    assert "30 of them refuse calls by now." in body
    assert body.count("- end user u") == 20
    assert "- and 11 more" in body
    heard = list(WebhookEvent.objects.of(acme).order_by("pk"))
    assert len(heard) == 20 * 3 + 2, "of twenty by an event for each threshold, of the rest together"
    said = [(row.type, each) for row in heard for each in (row.data, *row.data.get("others", ()))]
    assert len(said) == 30 * 3 + 1, "and of each threshold once"
    assert {(each["subject"], each["percent"]) for _, each in said} == {
        *((f"u{number:02}", percent) for number in range(30) for percent in (50, 80, 100)), ("half", 50),
    }  # fmt: skip
    assert len({frozenset(each) - {"others"} for _, each in said}) == 1, "in the same fields"
    assert all((type == "budget.exceeded") == (each["percent"] == 100) for type, each in said)

    clock.shift(timedelta(minutes=40))
    spend(key, price, "0.3", end_user="half")
    thresholds.look(None)
    assert sent(acme) == []
    clock.shift(timedelta(minutes=21))
    spend(key, price, "0.1", end_user="half")
    thresholds.look(None)
    [(_, subject, body)] = sent(acme)
    assert subject == "1 budget of Acme has reached its threshold"
    assert "end user half: $1.00 of $1.00 a day (100 %), begins again on 24 November 2026" in body


def test_many_keys_at_once_are_ten_letters_and_the_rest_in_one(clock, acme, price):
    for _ in range(13):
        spend(key_of(acme, limit_nanos=DOLLAR, limit_window="day"), price, "0.9")

    assert thresholds.look(None) == 13
    assert sorted(letters_to(acme)) == ["budget_reached"] * 10 + ["budgets_summed"]


def test_however_many_look_at_once_it_is_told_once(clock, acme, price):
    set_budget(acme)
    spend(key_of(acme), price, "9")

    counts = paying.at_once(6, lambda: thresholds.look(None))

    assert sum(counts) == 2
    assert len(events(acme)) == 2
    assert letters_to(acme) == ["budget_reached"]


def test_one_organization_hears_nothing_of_another(clock, acme, price):
    other = make_organization("other", usd="100")
    person(other, "owner")
    for each in (acme, other):
        set_budget(each, "end_user", "day", dollars=1, thresholds=[80])
        set_budget(each, dollars=10, thresholds=[80])
    spend(key_of(acme), price, "9", end_user="same name")

    thresholds.look(None)

    assert told(other) == events(other) == letters_to(other) == []
    assert told(acme) == [("budget", 80), ("user", 80)]


def test_the_job_looks_at_what_was_posted_since_it_last_looked_and_at_nothing_else(clock, acme, price):
    set_budget(acme, thresholds=[80])
    spend(key_of(acme), price, "9")
    clock.shift(timedelta(hours=3))
    tasks.look_at_budgets()
    assert told(acme) == [], "posted long before the first look"

    spend(key_of(acme), price, "0.1")
    clock.shift(timedelta(minutes=30))
    tasks.look_at_budgets()
    assert told(acme) == [("budget", 80)], "the last look was half an hour ago"
    clock.shift(timedelta(minutes=1))
    BudgetAlert.objects.of(acme).delete()
    clock.shift(timedelta(minutes=10))
    tasks.look_at_budgets()
    tasks.look_at_budgets()
    assert told(acme) == []


def test_a_key_without_limits_costs_the_job_no_more_than_a_look(
    clock, acme, price, django_assert_num_queries
):
    spend(key_of(acme), price, "9")

    with django_assert_num_queries(2):
        thresholds.look(None)
