"""The pages of request logs: who may switch, read and delete; openings and deletions leave evidence."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest
from django.urls import reverse

from accounts import privacy
from accounts.core import roles
from accounts.models import AuditEntry, Membership, User
from accounts.privacy import LogRules
from aggregator.lib import clock, seal
from billing.core import generation
from billing.models import Generation
from routing.models import LogDeletion, RequestLog
from tests.billing import books
from tests.routing.test_request_logs import logged

pytestmark = pytest.mark.django_db

RULES = {"kept": "both", "scope": "every", "days": "7"}


@pytest.fixture(autouse=True)
def _masters(settings):
    settings.LOG_MASTER_KEYS = [base64.b64encode(seal.make_key()).decode()]


@pytest.fixture
def acme():
    organization = books.make_organization()
    organization.api_key = books.make_key(organization, "Crawler")
    return organization


@pytest.fixture
def sign_in(client, acme):
    def of(role):
        user = User.objects.create(email=f"{role}@example.com")
        Membership.objects.create(organization=acme, user=user, role=role)
        client.force_login(user)
        return client

    return of


def logged_call(acme):
    """A call with a row of its own, and its log; answers its public id."""
    privacy.set_logging(acme, LogRules(on=True), by="test")
    call = books.deliver(acme.api_key, books.make_price())
    made = logged(acme, call=call.id)
    return generation.public_id(made)


def test_logging_is_off_until_an_owner_switches_it_on_and_says_for_how_long(sign_in, acme):
    owner = sign_in(roles.OWNER)
    page = owner.get(reverse("accounts:request_logs")).content.decode()
    assert "Off: nothing is logged" in page

    assert owner.post(reverse("accounts:request_logs"), {**RULES, "days": "91"}).status_code == 422
    assert owner.post(reverse("accounts:request_logs"), {**RULES, "scope": "some"}).status_code == 422
    assert not privacy.log_rules(acme.pk).on
    assert owner.post(reverse("accounts:request_logs"), RULES).status_code == 302
    assert privacy.log_rules(acme.pk) == LogRules(on=True, days=7)

    answer = owner.post(reverse("accounts:request_logs_off"), follow=True)
    assert not privacy.log_rules(acme.pk).on and "delete it below" in answer.content.decode()
    verbs = AuditEntry.objects.of(acme).order_by("pk").values_list("verb", flat=True)
    assert list(verbs)[-2:] == ["request_logging.switched_on", "request_logging.switched_off"]


def test_a_member_sees_whether_calls_are_logged_and_changes_nothing(sign_in, acme):
    member = sign_in(roles.MEMBER)

    assert member.get(reverse("accounts:request_logs")).status_code == 200
    for name in ("request_logs", "request_logs_off", "request_logs_delete", "request_logs_destroy"):
        assert member.post(reverse(f"accounts:{name}"), RULES).status_code == 403


def test_an_owner_reads_a_call_a_member_only_those_of_keys_of_their_own(sign_in, acme):
    call = logged_call(acme)
    page = sign_in(roles.OWNER).get(reverse("routing:request_log", args=[call]))
    assert "canary" in page.content.decode() and "no-store" in page.headers["Cache-Control"]
    opened = AuditEntry.objects.of(acme).get(verb="request_log.opened")
    assert (opened.actor, opened.object) == ("user:owner@example.com", call)

    member = sign_in(roles.MEMBER)
    assert member.get(reverse("routing:request_log", args=[call])).status_code == 404
    acme.api_key.created_by = User.objects.get(email="member@example.com")
    acme.api_key.save()
    assert "canary" in member.get(reverse("routing:request_log", args=[call])).content.decode()
    assert member.post(reverse("routing:request_log_delete", args=[call])).status_code == 403


def test_one_call_is_deleted_and_its_page_says_that_nothing_is_kept(sign_in, acme):
    call, owner = logged_call(acme), sign_in(roles.OWNER)

    assert owner.post(reverse("routing:request_log_delete", args=[call])).status_code == 302

    page = owner.get(reverse("routing:request_log", args=[call]))
    assert "Nothing is kept of this call" in page.content.decode()
    assert LogDeletion.objects.of(acme).get().what == "one"


def test_a_period_and_then_everything_is_deleted_with_a_record_to_download(sign_in, acme):
    logged_call(acme)
    logged(acme, ago=timedelta(days=3))
    owner, day = sign_in(roles.OWNER), (clock.now() - timedelta(days=3)).date().isoformat()

    wrong = owner.post(reverse("accounts:request_logs_delete"), {"since": day, "until": "2020-01-01"})
    assert wrong.status_code == 422 and RequestLog.objects.of(acme).count() == 2
    owner.post(reverse("accounts:request_logs_delete"), {"since": day, "until": day})
    assert RequestLog.objects.of(acme).count() == 1

    slip = owner.post(reverse("accounts:request_logs_destroy"), {"name": "another"})
    assert slip.status_code == 422 and RequestLog.objects.of(acme).count() == 1
    owner.post(reverse("accounts:request_logs_destroy"), {"name": acme.name})

    assert RequestLog.objects.of(acme).count() == 0
    record = LogDeletion.objects.of(acme).order_by("-pk").first()
    answer = owner.get(reverse("accounts:log_deletion", args=[record.public_id]))
    told = json.loads(answer.content)
    assert (told["rows"], told["what"], told["rows_left"]) == (1, "everything", 0)
    assert told["destroyed_keys"][0]["fingerprint_sha256"] == record.fingerprints[0]
    assert "attachment" in answer.headers["Content-Disposition"]


def test_without_a_master_key_the_page_says_so_and_nobody_can_switch_it_on(sign_in, acme, settings):
    settings.LOG_MASTER_KEYS = []
    owner = sign_in(roles.OWNER)

    assert "set no master key" in owner.get(reverse("accounts:request_logs")).content.decode()
    owner.post(reverse("accounts:request_logs"), RULES)
    assert not privacy.log_rules(acme.pk).on


def test_a_log_whose_master_key_is_gone_says_so_and_nothing_else(sign_in, acme, settings):
    call = logged_call(acme)
    settings.LOG_MASTER_KEYS = [base64.b64encode(seal.make_key()).decode()]

    page = sign_in(roles.OWNER).get(reverse("routing:request_log", args=[call]))

    assert page.status_code == 503 and "cannot be opened" in page.content.decode()
    assert Generation.objects.of(acme).count() == 1
