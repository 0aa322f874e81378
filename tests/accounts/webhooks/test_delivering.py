"""Events get through: signed, once for each key, again after failures, and nobody holds up another."""

from __future__ import annotations

import contextlib
import threading
from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection, transaction
from django.db.models import F

from accounts import webhooks
from accounts.core import roles
from accounts.models import (
    AuditEntry,
    Membership,
    Organization,
    User,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
)
from accounts.webhooks import delivery, events, letters
from aggregator.lib import clock, jobs
from tests.accounts.webhooks.conftest import BUDGET, add, tell, the_delivery, waits_no_more
from tests.accounts.webhooks.receiving import Receiver, is_signed, receiving

pytestmark = pytest.mark.django_db


def test_an_event_gets_through_signed_and_is_remembered(home: Organization, alice: User, receiver: Receiver):
    _, secret = add(home, alice, receiver.url)
    event = tell(home)

    assert delivery.deliver_due() == 1

    [(headers, body)] = receiver.got
    assert is_signed(secret, headers, body) and not is_signed(secret, headers, body + b" ")
    assert headers["webhook-id"] == event.message_id and headers["content-type"] == "application/json"
    [told] = receiver.events()
    assert (told["type"], told["data"]) == ("budget.exceeded", BUDGET)
    assert the_delivery().state == "delivered"
    attempt = WebhookAttempt.objects.get()
    assert (attempt.status, attempt.answer, attempt.error) == (200, "thank you", "")


def test_an_event_of_one_key_is_written_and_sent_once(home: Organization, alice: User, receiver: Receiver):
    add(home, alice, receiver.url)
    assert tell(home) == tell(home)
    tell(home, "two")
    tell(home, "one", "budget.threshold_reached")

    delivery.deliver_due()

    assert len(receiver.got) == len(set(receiver.ids)) == 3


def test_a_key_may_be_as_long_as_the_name_of_an_end_user(home: Organization):
    """A key that the column cannot hold failed the transaction of whoever told of something."""
    ends = ("a" * 400, "a" * 399 + "b", "a" * 400)

    assert len({tell(home, end).pk for end in ends}) == 2


def test_an_event_that_is_rolled_back_was_never_told(home: Organization, alice: User, receiver: Receiver):
    add(home, alice, receiver.url)
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        tell(home)
        _ = 1 / 0

    assert delivery.deliver_due() == 0 and not WebhookEvent.objects.of(home).exists()


def test_an_endpoint_gets_what_it_wants_of_its_own_organization(
    home: Organization, alice: User, away: Organization, mallory: User, receiver: Receiver
):
    add(home, alice, receiver.url, "invoice.issued")
    add(away, mallory, receiver.url)

    tell(home)
    assert delivery.deliver_due() == 0
    webhooks.send(home.pk, "invoice.issued", {"number": "ours"}, key="1")
    assert delivery.deliver_due() == 1

    assert [told["data"] for told in receiver.events()] == [{"number": "ours"}]


@pytest.mark.parametrize("data", [{"a": float("nan")}, {"a": "b" * events.MOST_BYTES}])
def test_what_cannot_be_sent_is_an_error_of_the_caller(home: Organization, data: dict[str, object]):
    with pytest.raises(ValueError, match=r"no type|longer|JSON"):
        webhooks.send(home.pk, "budget.exceeded", data, key="1")
    with pytest.raises(ValueError, match="no type"):
        webhooks.send(home.pk, "budget.unheard_of", {}, key="1")


def test_a_failure_is_tried_again_with_the_same_id_for_three_days(
    home: Organization, alice: User, receiver: Receiver
):
    add(home, alice, receiver.url)
    tell(home)
    receiver.status, receiver.body = 503, b"away"
    assert timedelta(hours=70) < sum(delivery.PAUSES, timedelta()) < timedelta(hours=74)

    for failures, pause in enumerate(delivery.PAUSES, 1):
        assert delivery.deliver_due() == 1
        row = the_delivery()
        assert (row.state, row.failures) == ("waiting", failures)
        assert 0.8 * pause < row.next_try_at - clock.now() < 1.2 * pause
        assert delivery.deliver_due() == 0, "before its time"
        waits_no_more()
    delivery.deliver_due()

    assert the_delivery().state == "failed" and delivery.deliver_due() == 0
    assert len(receiver.got) == len(delivery.PAUSES) + 1 and len(set(receiver.ids)) == 1
    assert len({body for _, body in receiver.got}) == 1, "byte for byte"
    assert {attempt.answer for attempt in WebhookAttempt.objects.all()} == {"away"}


HOUR = timedelta(hours=1)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("dated", [False, True])
def test_who_asks_to_be_left_alone_is_tried_again_then_and_no_longer_in_all(
    home: Organization, alice: User, receiver: Receiver, status: int, dated: bool
):
    add(home, alice, receiver.url)
    tell(home)
    receiver.status, waited = status, timedelta()
    for asked in (5 * HOUR, 30 * HOUR, 9999 * HOUR, HOUR):
        then = clock.now() + asked
        receiver.headers["Retry-After"] = (
            f"{then:%a, %d %b %Y %H:%M:%S GMT}" if dated else str(int(asked.total_seconds()))
        )
        assert delivery.deliver_due() == 1
        row = the_delivery()
        if row.next_try_at is None:
            break
        pause = row.next_try_at - clock.now()
        waited += pause
        if asked < 31 * HOUR:
            assert abs(pause - asked) < timedelta(minutes=1)
        waits_no_more()

    assert row.state == "failed" and len(receiver.got) == 4
    whole = sum(delivery.PAUSES, timedelta())
    assert whole - 20 * HOUR < waited < whole + HOUR, "the end comes no later for it"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (500, "7200"), (503, "0"), (503, "-5"), (503, "soon"), (503, "1e9"), (503, "²"), (429, ""),
        (429, "Mon, 02 Nov 2026 10:00:00 GMT"), (429, "Mon, 99 Nov 2026 10:00:00 GMT"),
    ],
)  # fmt: skip
def test_what_is_no_wish_to_be_left_alone_changes_nothing(
    home: Organization, alice: User, receiver: Receiver, status: int, said: str
):
    add(home, alice, receiver.url)
    tell(home)
    receiver.status, receiver.headers = status, {"Retry-After": said.encode().decode("latin-1")}

    delivery.deliver_due()

    row = the_delivery()
    assert row.failures == 1 and row.next_try_at is not None
    assert row.next_try_at - clock.now() < 1.2 * delivery.PAUSES[0]


def test_an_endpoint_that_failed_for_days_is_switched_off_with_a_letter(
    home: Organization, alice: User, bob: User, receiver: Receiver
):
    endpoint, _ = add(home, alice, receiver.url)
    receiver.status = 500
    tell(home)
    delivery.deliver_due()
    WebhookDelivery.objects.of(home).update(failures=len(delivery.PAUSES))
    tell(home, "two")
    waits_no_more()
    WebhookEndpoint.objects.of(home).update(failing_since=F("failing_since") - timedelta(days=3))

    delivery.deliver_due()

    endpoint.refresh_from_db()
    assert endpoint.off == WebhookEndpoint.Off.FAILING
    assert set(WebhookDelivery.objects.of(home).values_list("state", flat=True)) == {"failed"}
    assert letters.send_waiting() == 1 and letters.send_waiting() == 0
    [letter] = mail.outbox
    assert letter.to == [alice.email], "and no member who does not look after billing"
    assert endpoint.public_id in letter.body and "secret-of-theirs" not in letter.subject + letter.body
    tell(home, "three")
    assert delivery.deliver_due() == 0


def test_gone_means_that_nothing_more_is_wanted(home: Organization, alice: User, receiver: Receiver):
    endpoint, _ = add(home, alice, receiver.url)
    receiver.status = 410
    tell(home)

    delivery.deliver_due()

    endpoint.refresh_from_db()
    assert (endpoint.off, endpoint.letter_waits) == (WebhookEndpoint.Off.GONE, True)
    assert AuditEntry.objects.of(home).filter(verb="webhook.disabled", actor="system:webhooks").exists()
    letters.send_waiting()
    assert "410" in mail.outbox[0].body


def test_a_letter_that_mail_does_not_take_waits(
    home: Organization, alice: User, receiver: Receiver, settings
):
    add(home, alice, receiver.url)
    receiver.status = 410
    tell(home)
    delivery.deliver_due()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1

    assert letters.send_waiting() == 0
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    assert letters.send_waiting() == 1


def test_what_is_not_public_is_not_asked_whatever_was_allowed_when_it_was_added(
    home: Organization, alice: User, receiver: Receiver, settings
):
    add(home, alice, receiver.url)
    tell(home)
    settings.EMBEDDED = False

    delivery.deliver_due()

    assert receiver.got == []
    assert WebhookAttempt.objects.get().error.startswith("not sent: ")


def test_an_error_of_ours_is_written_down_and_tried_again(
    home: Organization, alice: User, receiver: Receiver, settings
):
    """One that was raised ended the run, and with it every other message."""
    add(home, alice, receiver.url)
    tell(home)
    settings.EGRESS_PORTS = ["no port"]

    assert delivery.deliver_due() == 1

    assert the_delivery().failures == 1 and WebhookAttempt.objects.get().error == "an error of ours"


def test_a_slow_endpoint_holds_up_no_other(
    home: Organization, alice: User, away: Organization, mallory: User, receiver: Receiver
):
    go_on, at_once = threading.Event(), []
    with receiving(go_on=go_on) as slow:
        add(home, alice, slow.url)
        add(away, mallory, receiver.url)
        for number in range(6):
            tell(home, str(number))
        for number in range(6):
            tell(away, str(number))

        def watch() -> None:
            while len(receiver.got) < 6 and not go_on.wait(0.01):
                pass
            at_once.append(len(slow.got))
            go_on.set()

        watcher = threading.Thread(target=watch)
        watcher.start()
        delivery.deliver_due()
        go_on.set()
        watcher.join()

        assert at_once == [delivery.MOST_TO_ENDPOINT], "while the other got all of its own"
        assert set(WebhookAttempt.objects.values_list("status", flat=True)) == {200}
        assert len(slow.got) == 6 and slow.most_at_once == delivery.MOST_TO_ENDPOINT


def test_one_run_sends_and_another_leaves_it_alone(home: Organization, alice: User, receiver: Receiver):
    add(home, alice, receiver.url)
    tell(home)
    found: list[int] = []

    def other() -> None:
        with jobs.alone("accounts.deliver_webhooks"):
            entered.set()
            leave.wait(20)
        connection.close()

    entered, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(20)
    found.append(delivery.deliver_due())
    leave.set()
    thread.join()
    found.append(delivery.deliver_due())

    assert found == [0, 1]


def test_what_a_dead_process_had_taken_is_sent_again(home: Organization, alice: User, receiver: Receiver):
    add(home, alice, receiver.url)
    tell(home)
    assert len(delivery._take(delivery._Run())) == 1

    assert delivery.deliver_due() == 0, "somebody has it"
    waits_no_more()
    assert delivery.deliver_due() == 1


def test_events_are_kept_for_their_days(home: Organization, alice: User, receiver: Receiver, settings):
    add(home, alice, receiver.url)
    tell(home)
    tell(home, "two")
    delivery.deliver_due()
    old = WebhookEvent.objects.of(home).filter(key="one")
    old.update(created_at=clock.now() - timedelta(days=settings.WEBHOOK_DAYS_KEPT, minutes=1))

    assert events.delete_aged() == 1 and events.delete_aged() == 0
    assert WebhookEvent.objects.of(home).get().key == "two" and WebhookAttempt.objects.count() == 1


def test_whoever_looks_after_billing_is_who_is_written_to(home: Organization, alice: User, bob: User):
    from accounts import members

    assert members.who_may(home.pk, roles.BILLING) == [alice.email]
    Membership.objects.of(home).filter(user=bob).update(role=roles.ADMIN)
    assert members.who_may(home.pk, roles.BILLING) == [alice.email, bob.email]
