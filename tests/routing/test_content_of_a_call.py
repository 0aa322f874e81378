"""`GET /generation/content`: what a call said, for who may read it, each reading under audit."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest

from accounts import keys, privacy
from accounts.core import roles
from accounts.models import AuditEntry
from accounts.privacy import LogRules
from aggregator.lib import clock, ids, seal
from billing.core import generation
from billing.models import DroppedMonth
from routing import request_logs
from tests.billing import books
from tests.routing.test_request_logs import entry, logged

pytestmark = pytest.mark.django_db

YESTERDAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _masters(settings):
    settings.LOG_MASTER_KEYS = [base64.b64encode(seal.make_key()).decode()]


@pytest.fixture
def acme():
    organization = books.make_organization()
    organization.api_key, organization.text = keys.create(organization, name="Crawler", by="test")
    _, organization.manages = keys.create(organization, name="Ops", by="test", scope=roles.MANAGEMENT)
    privacy.set_logging(organization, LogRules(on=True), by="test")
    return organization


@pytest.fixture
def called(acme):
    """A call of yesterday that no log tells of."""
    return books.deliver(acme.api_key, books.make_price(), at=clock.now() - YESTERDAY).id


def read(client, text, call):
    answer = client.get(
        "/api/v1/generation/content",
        {"id": call if isinstance(call, str) else generation.public_id(call)},
        headers={"Authorization": f"Bearer {text}"},
    )
    return answer.status_code, json.loads(answer.content)


def refused(client, text, call):
    status, said = read(client, text, call)
    return status, said["error"]["type"]


def opened(acme):
    rows = AuditEntry.objects.of(acme).filter(verb="request_log.opened").order_by("pk")
    return list(rows.values_list("actor", "object"))


def test_a_key_reads_what_its_call_said_and_the_audit_log_says_that_it_did(client, acme, called):
    logged(acme, call=called)

    status, said = read(client, acme.text, called)

    assert (status, said["data"]["id"]) == (200, generation.public_id(called))
    assert said["data"]["input"] == {"messages": [{"role": "user", "content": "canary"}]}
    assert said["data"]["output"] == {"completion": None, "reasoning": None}, "the reply is no completion"
    assert said["data"]["reply"] == {"text": "yes", "bytes": 3, "cut": False}
    assert opened(acme) == [(f"key:{acme.api_key.public_id}", generation.public_id(called))]


def test_another_key_reads_nothing_of_it_but_one_that_manages_reads_all(client, acme, called):
    logged(acme, call=called)
    _, other = keys.create(acme, name="Other", by="test")
    stranger = books.make_organization("stranger")
    _, theirs = keys.create(stranger, name="Ops", by="test", scope=roles.MANAGEMENT)

    assert refused(client, other, called) == refused(client, theirs, called) == (404, "not_found")
    assert opened(acme) == [] == opened(stranger)
    assert read(client, acme.manages, called)[0] == 200
    assert len(opened(acme)) == 1


def test_what_is_not_logged_or_deleted_is_told_from_what_is_not_there(client, acme, called):
    nothing = (404, "content_not_kept")
    assert refused(client, acme.text, called) == nothing

    logged(acme, call=called)
    request_logs.delete_one(acme, called, by="test")

    assert refused(client, acme.text, called) == refused(client, acme.manages, called) == nothing
    assert refused(client, acme.text, "gen-1") == (400, "invalid_request")
    assert refused(client, acme.text, ids.first_uuid7(clock.now() - YESTERDAY)) == (404, "not_found")


def test_a_call_of_this_instant_without_logging_is_answered_at_once(client, acme):
    privacy.switch_logging_off(acme.pk, by="test")
    call = books.deliver(acme.api_key, books.make_price()).id

    assert refused(client, acme.text, call) == (404, "content_not_kept")


def test_a_call_whose_month_is_not_kept_any_more_is_gone(client, acme):
    long_ago = clock.now() - timedelta(days=800)
    sums = dict.fromkeys(("requests", "base_nanos", "charge_nanos", "loss_nanos"), 0)
    DroppedMonth.objects.create(month=long_ago.date().replace(day=1), **sums)

    assert refused(client, acme.text, ids.first_uuid7(long_ago)) == (410, "generation_not_kept")


def test_a_log_whose_master_key_is_gone_is_our_fault(client, acme, called, settings):
    logged(acme, call=called)
    settings.LOG_MASTER_KEYS = [base64.b64encode(seal.make_key()).decode()]

    assert refused(client, acme.text, called) == (503, "service_unavailable")


def test_what_was_cut_or_is_half_a_letter_is_told_as_far_as_it_goes(client, acme, called):
    made = entry(acme, call=called)
    made.content.request.size += 1
    half = {"choices": [{"index": 0, "message": {"content": "Ahoy \ud83d", "reasoning": "They greet."}}]}
    made.content.reply.data = json.dumps(half).encode()
    request_logs.write([made], {})

    said = read(client, acme.text, called)[1]["data"]

    assert said["input"] is None and said["request"]["cut"] and "canary" in said["request"]["text"]
    assert said["output"] == {"completion": "Ahoy \ufffd", "reasoning": "They greet."}
