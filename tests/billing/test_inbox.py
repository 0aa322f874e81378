"""Events are handled until something came of them: once or many times, in any order, by one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client

from accounts.models import Organization, User
from aggregator.celery import app
from aggregator.lib import clock
from billing import tasks
from billing.models import Alert, Card, Customer, StripeEvent
from billing.payments import customers, inbox
from billing.stripe_client import events
from tests.billing import books, hooking, stripe_stand
from tests.billing.stripe_stand import Stand

pytestmark = pytest.mark.django_db


@pytest.fixture
def stand(settings: Any) -> Iterator[Stand]:
    stand = stripe_stand.running()
    settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE = stand.key, stand.url
    settings.STRIPE_WEBHOOK_SECRETS = [stand.webhook_secret]
    stand.reset()
    return stand


@pytest.fixture
def owner(stand: Stand) -> Organization:
    """A customer of Stripe's."""
    owner = books.make_organization(usd="0")
    customers.ensure(owner, email="olga@example.com")
    return owner


@pytest.fixture
def eager() -> Iterator[None]:
    """Jobs run where they are sent."""
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


def customer_of(owner: Organization) -> str:
    return str(Customer.objects.of(owner).get().stripe_id)


def keep(told: dict[str, Any], source: str = inbox.WEBHOOK) -> str:
    event = events.read(told)
    inbox.store(event, source)
    return event.id


def row(event_id: str) -> StripeEvent:
    return StripeEvent.objects.get(pk=event_id)


def state(owner: Organization) -> list[tuple[Any, ...]]:
    rows = Card.objects.of(owner).order_by("stripe_id")
    return [(each.stripe_id, each.is_default, each.removed_at is None) for each in rows]


def test_an_event_is_handled_once_and_says_what_came_of_it(stand: Stand, owner: Organization):
    stand.client().v1.payment_methods.attach("pm_card_visa", {"customer": customer_of(owner)})
    (told,) = stand.events("payment_method.attached")
    event = keep(told)

    assert [inbox.handle(event), inbox.handle(event)] == [True, False]

    kept = row(event)
    assert (kept.outcome, kept.tries) == ("1 cards", 1)
    assert kept.handled_at is not None
    assert len(state(owner)) == 1
    assert inbox.waiting() == []
    assert inbox.handle("evt_nobody") is False


def deliver(client: Client, stand: Stand, told: dict[str, Any]) -> int:
    body, signature = stand.signed(told)
    headers = {"Stripe-Signature": signature}
    answer = client.post("/hooks/stripe", body, content_type="application/json", headers=headers)
    return int(answer.status_code)


def test_f46_duplicated_late_reordered_unknown_and_foreign_events_change_nothing(
    stand: Stand, owner: Organization
):
    """Three days late means: happened then, signed now."""
    methods = stand.client().v1.payment_methods
    gone = methods.attach("pm_card_visa", {"customer": customer_of(owner)}).id
    stays = methods.attach("pm_card_mastercard", {"customer": customer_of(owner)}).id
    methods.detach(gone)
    told = stand.events("payment_method.attached", "payment_method.detached")
    assert len(told) == 3
    late = {**told[0], "created": told[0]["created"] - 3 * 24 * 60 * 60}
    strange = [
        (hooking.event("payment_method.melted", gone), 200),
        (hooking.event("terminal.reader.updated", "tmr_1"), 200),
        ({**told[1], "id": "evt_live", "livemode": True}, 400),
        ({**told[1], "id": "evt_other", "account": "acct_other"}, 400),
    ]

    client = Client()
    for order in ([told[2], told[1], late], [told[1], late, told[2]]):
        before = transaction.savepoint()
        for each, *more in zip([*order, *order], strange, strict=False):
            assert deliver(client, stand, each) == 200
            for other, status in more:
                assert deliver(client, stand, other) == status
            for event in inbox.waiting():
                inbox.handle(event)

        assert state(owner) == [(stays, True, True)]
        assert inbox.waiting() == []
        assert set(StripeEvent.objects.values_list("tries", flat=True)) <= {0, 1}
        transaction.savepoint_rollback(before)


def test_while_stripe_is_away_an_event_waits_ever_longer_and_is_not_lost(stand: Stand, owner: Organization):
    event = keep(hooking.event(about=customer_of(owner)))
    pauses = []
    with time_machine.travel(clock.now(), tick=False) as traveller:
        for _ in range(9):
            stand.mishap(f"GET /v1/customers/{customer_of(owner)}", "limit")
            assert inbox.handle(event) is False
            pauses.append(int((row(event).not_before - clock.now()).total_seconds()))
            assert inbox.waiting() == []
            assert Alert.objects.filter(kind="stripe_away").exists() == (len(pauses) >= 5)
            traveller.shift(timedelta(seconds=pauses[-1]))
            assert inbox.waiting() == [event]
        assert inbox.handle(event) is True

    assert pauses == [10, 20, 40, 80, 160, 320, 640, 900, 900]
    assert (row(event).outcome, row(event).tries) == ("0 cards", 10)
    assert not Alert.objects.filter(resolved_at=None).exists()


def test_an_error_of_ours_is_noted_raised_and_tried_again_and_told_after_five_tries(stand: Stand):
    event = keep(hooking.event("payment_method.attached", "pm_1"))
    whole = row(event).payload
    StripeEvent.objects.filter(pk=event).update(payload={})
    with time_machine.travel(clock.now(), tick=False) as traveller:
        for tries in range(1, 6):
            with pytest.raises(KeyError):
                inbox.handle(event)
            assert (row(event).tries, row(event).outcome) == (tries, "KeyError: 'data'")
            assert Alert.objects.filter(subject=event).exists() == (tries == 5)
            traveller.shift(timedelta(minutes=15))
        StripeEvent.objects.filter(pk=event).update(payload=whole)
        assert inbox.handle(event) is True

    assert row(event).outcome == "of no customer"
    assert not Alert.objects.filter(resolved_at=None).exists()


def test_an_event_about_what_stripe_does_not_know_is_tried_five_times_and_told(stand: Stand):
    owner = books.make_organization(usd="0")
    Customer.objects.create(organization=owner, email="olga@example.com", stripe_id="cus_of_another_account")
    event = keep(hooking.event(about="cus_of_another_account"))
    with time_machine.travel(clock.now(), tick=False) as traveller:
        handled = []
        for _ in range(5):
            handled.append(inbox.handle(event))
            traveller.shift(timedelta(minutes=15))

    assert handled == [False, False, False, False, True]
    assert row(event).outcome.startswith("not at Stripe")
    assert Alert.objects.get().subject == event
    assert inbox.failed() == [event]
    inbox.replay([event])
    assert Alert.objects.get().resolved_at is not None, "who replays it has seen it"


def test_an_event_whose_worker_died_is_handled_when_its_lease_is_over(stand: Stand, owner: Organization):
    event = keep(hooking.event(about=customer_of(owner)))
    with time_machine.travel(clock.now(), tick=False) as traveller:
        assert inbox._claim(event) is not None  # and is not heard of again
        traveller.shift(timedelta(seconds=299))
        assert inbox.handle(event) is False
        traveller.shift(timedelta(seconds=1))
        assert inbox.waiting() == [event]
        assert inbox.handle(event) is True
    assert row(event).tries == 2


def test_an_event_whose_job_was_lost_is_found_by_the_job_that_looks_for_such(
    stand: Stand, owner: Organization, eager: None
):
    """The commit happened, the job was never sent."""
    lost = [keep(hooking.event(about=customer_of(owner))) for _ in range(3)]
    assert all(row(event).tries == 0 for event in lost)

    tasks.handle_waiting_events()

    assert {row(event).outcome for event in lost} == {"0 cards"}
    assert inbox.waiting() == []


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_at_one_event_one_handles_it(stand: Stand, owner: Organization):
    told = [hooking.event(about=customer_of(owner)) for _ in range(4)]
    rows = [
        StripeEvent(
            pk=each["id"],
            type=each["type"],
            object_id=customer_of(owner),
            payload=each,
            created_at=clock.now(),
        )
        for each in told
    ]
    StripeEvent.objects.bulk_create(rows)
    barrier = Barrier(2)

    def work(_: int) -> list[bool]:
        try:
            barrier.wait()
            return [inbox.handle(each["id"]) for each in told]
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(work, range(2))

    assert [sorted(pair) for pair in zip(one, other, strict=True)] == [[False, True]] * 4
    assert set(StripeEvent.objects.values_list("tries", "outcome")) == {(1, "0 cards")}


def test_operators_replay_events_by_id_by_time_and_those_that_failed(
    stand: Stand, owner: Organization, capsys: pytest.CaptureFixture[str]
):
    done = keep(hooking.event(about=customer_of(owner)))
    failing = keep(hooking.event("payment_method.attached", "pm_1"))
    other = keep(hooking.event("terminal.reader.updated", "tmr_1"))
    StripeEvent.objects.filter(pk=failing).update(payload={})
    inbox.handle(done)
    with pytest.raises(KeyError):
        inbox.handle(failing)
    assert inbox.waiting() == []

    call_command("replay_events", done)
    assert inbox.waiting() == [done]
    assert inbox.handle(done) is True
    call_command("replay_events", failed=True)
    assert inbox.waiting() == [failing]
    assert row(failing).tries == 0
    call_command("replay_events", since=f"{clock.now() - timedelta(hours=1):%Y-%m-%dT%H:%M}")
    assert set(inbox.waiting()) == {done, failing}
    assert row(other).outcome == inbox.NOT_OURS
    assert capsys.readouterr().out.splitlines()[-1] == "2 events will be handled again."


def test_an_event_that_we_never_got_is_fetched_to_be_replayed(stand: Stand, owner: Organization):
    (told,) = stand.events("customer.created")
    stand.client().v1.customers.update(customer_of(owner), {"name": "Acme"})
    (updated,) = stand.events("customer.updated")

    call_command("replay_events", updated["id"])

    assert inbox.waiting() == [updated["id"]]
    assert row(updated["id"]).source == "pull"
    assert told["id"] not in inbox.waiting()


@pytest.mark.parametrize(
    "arguments",
    [{}, {"since": "yesterday"}, {"events": ["evt_nobody"]}],
)
def test_what_cannot_be_replayed_is_said(stand: Stand, arguments: dict[str, Any]):
    with pytest.raises(CommandError):
        call_command("replay_events", *arguments.pop("events", []), **arguments)
    assert not StripeEvent.objects.exists()


def test_operators_see_events_and_have_them_handled_again(stand: Stand, owner: Organization):
    event = keep(hooking.event(about=customer_of(owner)))
    inbox.handle(event)
    root = User.objects.create_superuser("root@example.com", "correct horse battery")
    client = Client()
    client.force_login(root)

    assert event in client.get("/admin/billing/stripeevent/").content.decode()
    assert client.get(f"/admin/billing/stripeevent/{event}/change/").status_code == 200
    client.post(
        "/admin/billing/stripeevent/", {"action": "handle_again", "_selected_action": [event], "index": 0}
    )

    assert inbox.waiting() == [event]


def test_each_type_that_is_asked_for_has_somebody_who_looks():
    assert [each for each in inbox.TYPES if inbox.handler(each) is None] == []
    assert list(inbox.TYPES) == sorted(set(inbox.TYPES))
    assert inbox.handler("terminal.reader.updated") is None
