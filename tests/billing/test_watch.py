"""A broken invariant, a silent job and work that waits reach operators: as a row, a metric and an e-mail."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from datetime import timedelta
from smtplib import SMTPRecipientsRefused

import pytest
import time_machine
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.db import connection, transaction
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from psycopg.pq import TransactionStatus

from accounts.core import roles
from accounts.models import Membership, User
from aggregator import celery
from aggregator.lib import clock, jobs
from billing import alerts, letters, reconcile, tasks, watch
from billing.models import Alert, JobRun, Letter, Wallet
from tests.billing import books

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _operators(settings):
    settings.OPERATOR_EMAILS = ["operator@example.com"]
    settings.METRICS_TOKEN = "m" * 20


def metrics() -> dict[tuple[str, str], float]:
    """Name and its one label → value."""
    answer = Client().get("/metrics", headers={"Authorization": "Bearer " + "m" * 20})
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.content.decode())
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_broken_invariant_is_an_alert_a_metric_and_an_e_mail():
    organization = books.make_organization()
    tasks.check_ledger(whole=True)
    assert not Alert.objects.exists()
    Wallet.objects.of(organization).update(balance_nanos=7)

    tasks.check_ledger(whole=True)
    tasks.check_ledger(whole=True)
    tasks.send_mail()
    tasks.send_mail()

    (alert,) = Alert.objects.filter(subject="balances_are_sums")
    assert alert.kind == "invariant" and alert.count == 2 and "says 7" in alert.says
    assert metrics()["fairlead_invariant_broken", "balances_are_sums"] == 1
    (message,) = mail.outbox
    assert message.to == ["operator@example.com"] and "balances_are_sums" in message.body


def test_what_holds_again_is_resolved_by_a_look_at_everything_alone():
    finding = reconcile.Finding("balances_are_sums", "every wallet is a sum", 1, ("a wallet",))
    well = reconcile.Finding("balances_are_sums", "every wallet is a sum", 0)
    assert reconcile.tell([finding], whole=False) == 1

    reconcile.tell([well], whole=False)
    assert len(alerts.open_alerts()) == 1
    reconcile.tell([well], whole=True)
    assert alerts.open_alerts() == []


def test_an_alert_that_goes_on_is_mailed_again_after_an_hour_and_not_before():
    with time_machine.travel(clock.now(), tick=False) as traveller:
        alerts.raise_alert("dispute", "dp_1", "Somebody disputes a payment.")
        alerts.mail_operators()
        alerts.raise_alert("dispute", "dp_1", "Somebody disputes a payment.")
        alerts.mail_operators()
        assert len(mail.outbox) == 1
        traveller.shift(3601)
        assert alerts.mail_operators() == 0 or len(mail.outbox) == 2
        alerts.raise_alert("dispute", "dp_1", "Somebody disputes a payment.")
        alerts.mail_operators()
        assert len(mail.outbox) == 2


def test_mail_that_cannot_be_sent_leaves_the_alert_untold(settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    alerts.raise_alert("dispute", "dp_1", "Somebody disputes a payment.")

    with pytest.raises(OSError):
        alerts.mail_operators()

    assert alerts.open_alerts()[0].mailed_at is None


def test_a_job_that_falls_silent_is_told_without_any_job_running():
    watch.look()
    assert not Alert.objects.exists()
    silent = clock.now() - timedelta(minutes=41)
    JobRun.objects.filter(name="billing.check_ledger").update(ended_at=silent)

    assert watch.look() == ["The job billing.check_ledger has not come to its end for 41 minutes."]

    (message,) = mail.outbox
    assert "billing.check_ledger" in message.subject
    assert metrics()["fairlead_job_age_seconds", "billing.check_ledger"] >= 41 * 60
    assert metrics()["fairlead_alerts_open", "silence"] == 1
    tasks.check_ledger()
    assert watch.look() == []
    assert alerts.open_alerts() == []


def test_every_watched_job_is_in_the_timetable_and_says_when_it_ended():
    """Or its silence would be told for ever."""
    due = {entry["task"] for entry in celery.app.conf.beat_schedule.values()}

    assert set(watch.LONGEST_SILENCE) <= due | set(NIGHTLY)


NIGHTLY = {
    "billing.check_whole_ledger": lambda: tasks.check_ledger(whole=True),
    "billing.check_stripe_of_days": lambda: tasks.check_stripe(days=4),
    "billing.pull_events_of_days": lambda: tasks.pull_events(long=True),
}


@pytest.mark.parametrize("name", NIGHTLY)
def test_a_look_at_the_last_hours_that_is_under_way_is_not_instead_of_the_nightly_one(name, settings):
    settings.STRIPE_SECRET_KEY = ""
    hourly = {"billing.check_ledger", "billing.check_stripe", "billing.pull_events"}
    held, done = threading.Event(), threading.Event()

    def hold():
        with ExitStack() as stack:
            for job in hourly:
                assert stack.enter_context(jobs.alone(job))
            held.set()
            done.wait(30)
        connection.close()

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(10)
    try:
        NIGHTLY[name]()
    finally:
        done.set()
        other.join()

    assert JobRun.objects.filter(name=name).exists()


def test_who_raises_an_alert_does_not_wait_for_slow_mail(settings, monkeypatch):
    alerts.raise_alert("dispute", "dp_1", "Somebody disputes a payment.")

    def slow(*mail):
        def again():
            alerts.raise_alert("dispute", "dp_1", "Somebody disputes a payment.")
            connection.close()

        other = threading.Thread(target=again)
        other.start()
        other.join(4)
        waited.append(other.is_alive())
        return 1

    waited: list[bool] = []
    monkeypatch.setattr(alerts, "send_mail", slow)

    assert alerts.mail_operators() == 1
    assert waited == [False]
    assert Alert.objects.get().count == 2


def test_calls_that_nobody_posts_are_told():
    key, price = books.make_key(books.make_organization()), books.make_price()
    books.deliver(key, price, at=clock.now() - timedelta(minutes=6))

    assert watch.look() == ["1 calls that ended more than 5 minutes ago are not posted."]
    assert metrics()["fairlead_waiting", "generations"] == 1
    tasks.post_generations()
    assert watch.look() == []


def test_one_process_looks_at_a_time():
    JobRun.objects.create(name="billing.send_mail", ended_at=clock.now() - timedelta(hours=1))
    held, done = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('watch'))")
            held.set()
            done.wait(10)
        connection.close()

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(10)
    assert watch.look() == []
    done.set()
    other.join()
    assert len(watch.look()) == 1


def test_metrics_are_shown_to_who_has_the_token_alone(settings):
    assert Client().get("/metrics").status_code == 404
    assert Client().get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 404
    settings.METRICS_TOKEN = ""
    assert Client().get("/metrics", headers={"Authorization": "Bearer "}).status_code == 404


def test_a_letter_that_mail_takes_long_over_is_sent_once(monkeypatch):
    """A transaction that idles meanwhile would be ended, and with it would go the word that it was sent."""
    organization = books.make_organization()
    letters.write(organization.pk, "thawed", "acme:2", context={"because": "operator", "what_to_do": ""})
    sent: list[TransactionStatus] = []

    def slow(mail):
        sent.append(connection.connection.info.transaction_status)
        return 1

    monkeypatch.setattr(letters.EmailMessage, "send", slow)
    tasks.send_mail()
    tasks.send_mail()

    assert sent == [TransactionStatus.IDLE]


def test_a_letter_is_sent_once_however_often_it_is_written(settings, tmp_path):
    (tmp_path / "emails").mkdir()
    (tmp_path / "emails" / "test.txt").write_text(
        "About {{ organization.name }}\n\nIt is {{ what }}. {{ url }}"
    )
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    organization = books.make_organization()
    for email, role in (("owner@example.com", roles.OWNER), ("member@example.com", roles.MEMBER)):
        Membership.objects.create(
            organization=organization, user=User.objects.create_user(email, "x" * 12), role=role
        )
    for _ in range(2):
        letters.write(organization.pk, "test", "in_1", context={"what": "paid"})

    tasks.send_mail()
    tasks.send_mail()

    (message,) = mail.outbox
    assert message.to == ["owner@example.com"] and message.subject == "About Acme"
    assert message.body == f"It is paid. {settings.PUBLIC_URL}/billing\n"
    assert letters.waiting() == [] and Letter.unscoped.count() == 1


class Choosy(EmailBackend):
    """A mail server that takes nothing for one address."""

    def send_messages(self, messages):
        for message in messages:
            if "gone@example.com" in message.to:
                raise SMTPRecipientsRefused({"gone@example.com": (550, b"no such mailbox")})
        return super().send_messages(messages)


def test_a_letter_that_no_server_takes_keeps_neither_others_nor_operators_from_theirs(settings):
    settings.EMAIL_BACKEND = f"{__name__}.Choosy"
    organization = books.make_organization()
    for to in ("gone@example.com", "here@example.com", "there@example.com"):
        Letter.unscoped.create(
            organization=organization, kind="refund_made", subject_id=to, to=[to], context={"amount": "$5.00"}
        )
    alerts.raise_alert("dispute", "dp_1", "Somebody disputes a payment.")

    tasks.send_mail()

    assert {message.to[0] for message in mail.outbox} == {
        "operator@example.com",
        "here@example.com",
        "there@example.com",
    }
    assert [letter.to for letter in Letter.unscoped.filter(sent_at=None)] == [["gone@example.com"]]
    assert len(letters.waiting()) == 1
    Letter.unscoped.update(created_at=clock.now() - timedelta(days=15))
    assert letters.waiting() == [], "it is given up"
    assert JobRun.objects.filter(name="billing.send_mail").exists()
