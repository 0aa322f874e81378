"""Endpoints: their secrets lie sealed, every change is audited, and by hand only so much is sent."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection

from accounts.models import AuditEntry, Organization, User, WebhookAttempt
from accounts.webhooks import delivery, endpoints, signing
from aggregator.lib.errors import Refusal
from tests.accounts.webhooks.conftest import add, tell, the_delivery
from tests.accounts.webhooks.receiving import Receiver, is_signed

pytestmark = pytest.mark.django_db


def test_both_secrets_sign_until_the_older_ends(home: Organization, alice: User, receiver: Receiver):
    endpoint, first = add(home, alice, receiver.url)
    second = endpoints.rotate(endpoint, overlap=timedelta(hours=1), by=alice)
    tell(home)
    delivery.deliver_due()
    third = endpoints.rotate(endpoint, overlap=timedelta(0), by=alice)
    tell(home, "two")
    delivery.deliver_due()

    signed = [[is_signed(each, *got) for each in (first, second, third)] for got in receiver.got]
    assert signed == [[True, True, False], [False, False, True]]


def test_no_more_than_two_secrets_sign(home: Organization, alice: User, receiver: Receiver):
    endpoint, _ = add(home, alice, receiver.url)
    for _ in range(3):
        endpoints.rotate(endpoint, overlap=timedelta(days=7), by=alice)

    assert len(signing.opened(endpoint)) == 2


def test_a_secret_lies_sealed_and_opens_in_its_own_place_alone(
    home: Organization, alice: User, receiver: Receiver, settings
):
    endpoint, text = add(home, alice, receiver.url)
    other, _ = add(home, alice, receiver.url)
    with connection.cursor() as cursor:
        [[sealed]] = cursor.execute(
            "SELECT sealed FROM accounts_webhooksecret WHERE endpoint_id = %s", [endpoint.pk]
        ).fetchall()
        assert text.encode()[10:] not in bytes(sealed) and signing.opened(endpoint)[0] not in bytes(sealed)
        cursor.execute(
            "UPDATE accounts_webhooksecret SET sealed = %s WHERE endpoint_id = %s", [sealed, other.pk]
        )
    with pytest.raises(signing.SecretLost):
        signing.opened(other)
    settings.WEBHOOK_KEYS = ["another key that has thirty-two signs"]
    with pytest.raises(signing.SecretLost):
        signing.opened(endpoint)


def test_secrets_move_to_the_newest_key(home: Organization, alice: User, receiver: Receiver, settings):
    endpoint, _ = add(home, alice, receiver.url)
    before, old = signing.opened(endpoint), settings.WEBHOOK_KEYS
    settings.WEBHOOK_KEYS = ["a newer key of thirty-two characters", *old]

    assert signing.reseal() == 1 and signing.reseal() == 0
    settings.WEBHOOK_KEYS = settings.WEBHOOK_KEYS[:1]
    assert signing.opened(endpoint) == before


def test_a_message_that_cannot_be_signed_fails_and_tells_why(
    home: Organization, alice: User, receiver: Receiver, settings
):
    add(home, alice, receiver.url)
    tell(home)
    settings.WEBHOOK_KEYS = ["another key that has thirty-two signs"]

    delivery.deliver_due()

    assert receiver.got == [] and the_delivery().failures == 1
    assert "rotate" in WebhookAttempt.objects.get().error


def test_send_again_keeps_the_id(home: Organization, alice: User, receiver: Receiver):
    add(home, alice, receiver.url)
    tell(home)
    delivery.deliver_due()

    endpoints.send_again(the_delivery(), by=alice)
    with pytest.raises(Refusal, match="already"):
        endpoints.send_again(the_delivery(), by=alice)
    delivery.deliver_due()

    assert len(receiver.got) == 2 and len(set(receiver.ids)) == 1
    assert WebhookAttempt.objects.count() == 2


def test_by_hand_only_so_often_an_hour(home: Organization, alice: User, receiver: Receiver, settings):
    settings.WEBHOOKS_BY_HAND_PER_HOUR = 2
    endpoint, _ = add(home, alice, receiver.url, "invoice.issued")
    endpoints.test(endpoint, by=alice)
    endpoints.test(endpoint, by=alice)

    with pytest.raises(Refusal) as refused:
        endpoints.test(endpoint, by=alice)

    assert refused.value.status == 429
    assert delivery.deliver_due() == 2 and {told["type"] for told in receiver.events()} == {"webhook.test"}


def test_off_is_off_and_what_waited_can_be_sent_by_hand_after(
    home: Organization, alice: User, receiver: Receiver
):
    endpoint, _ = add(home, alice, receiver.url)
    tell(home)
    endpoints.disable(endpoint, by=alice)
    tell(home, "two")
    with pytest.raises(Refusal, match="off"):
        endpoints.test(endpoint, by=alice)
    assert delivery.deliver_due() == 0 and the_delivery().state == "failed"

    endpoints.enable(endpoint, by=alice)
    endpoints.send_again(the_delivery(), by=alice)

    assert delivery.deliver_due() == 1


def test_deleting_an_endpoint_deletes_its_secrets_and_its_log(
    home: Organization, alice: User, receiver: Receiver
):
    endpoint, _ = add(home, alice, receiver.url)
    tell(home)
    delivery.deliver_due()

    endpoints.delete(endpoint, by=alice)

    for table in ("webhookendpoint", "webhooksecret", "webhookdelivery", "webhookattempt"):
        with connection.cursor() as cursor:
            assert cursor.execute(f"SELECT count(*) FROM accounts_{table}").fetchall() == [(0,)], table


def test_the_audit_log_tells_of_every_change_and_holds_no_secret(
    home: Organization, alice: User, receiver: Receiver
):
    endpoint, text = add(home, alice, receiver.url)
    new = receiver.url.replace("127.0.0.1", "localhost")
    endpoints.change(endpoint, name="books", url=new, wanted=["invoice.issued"], by=alice)
    text += endpoints.rotate(endpoint, overlap=timedelta(0), by=alice)
    endpoints.test(endpoint, by=alice)
    endpoints.disable(endpoint, by=alice)
    endpoints.enable(endpoint, by=alice)
    endpoints.delete(endpoint, by=alice)

    told = list(AuditEntry.objects.of(home).filter(verb__startswith="webhook.").order_by("pk"))
    verbs = [entry.verb.removeprefix("webhook.") for entry in told]
    assert verbs == ["added", "changed", "rotated", "tested", "disabled", "enabled", "deleted"]
    said = " ".join(f"{entry.object} {entry.detail}" for entry in told)
    assert "secret-of-theirs" not in said and "whsec_" not in said and text[10:30] not in said


def test_an_organization_has_only_so_many(home: Organization, alice: User, receiver: Receiver):
    for _ in range(endpoints.MOST):
        add(home, alice, receiver.url)
    with pytest.raises(Refusal, match="at most"):
        add(home, alice, receiver.url)


def test_without_a_key_to_seal_with_nothing_is_added(home: Organization, alice: User, settings):
    settings.WEBHOOK_KEYS = []
    with pytest.raises(Refusal) as refused:
        add(home, alice, "https://example.com/")

    assert refused.value.status == 503
