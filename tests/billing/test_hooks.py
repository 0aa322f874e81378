"""The webhook takes what Stripe signed just now, for us; everything else is refused and leaves nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client
from kombu.exceptions import OperationalError as BrokerUnreachable

from aggregator import asgi, planes
from aggregator.celery import app
from aggregator.lib import clock
from billing.models import Alert, StripeEvent
from billing.payments import inbox
from tests.billing.hooking import OTHER, SECRET, dump, event, signed

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _secrets(settings: Any) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_hook"
    settings.STRIPE_WEBHOOK_SECRETS = [SECRET]


def post(body: bytes, signature: str | None, **headers: str) -> HttpResponse:
    given = headers if signature is None else {"Stripe-Signature": signature, **headers}
    client = Client(enforce_csrf_checks=True)
    return client.post("/hooks/stripe", body, content_type="application/json", headers=given)


def test_what_stripe_signed_is_stored_and_acknowledged():
    told = event(about="cus_1")
    body = dump(told)

    answer = post(body, signed(body))

    assert (answer.status_code, answer.content) == (200, b"stored\n")
    row = StripeEvent.objects.get()
    assert (row.pk, row.type, row.object_id, row.source) == (told["id"], told["type"], "cus_1", "webhook")
    assert row.payload == told
    assert (row.handled_at, row.tries) == (None, 0)
    assert inbox.waiting() == [told["id"]]


def test_an_event_that_comes_again_is_acknowledged_and_stored_once():
    body = dump(event())

    assert [post(body, signed(body)).content for _ in range(3)] == [b"stored\n", b"known\n", b"known\n"]
    assert StripeEvent.objects.count() == 1


def _re_serialised(body: bytes) -> tuple[bytes, str | None]:
    return json.dumps(json.loads(body)).encode(), signed(body)


def _changed(body: bytes) -> tuple[bytes, str | None]:
    return body.replace(b"cus_nobody", b"cus_mallory"), signed(body)


FORGERIES = {
    "an empty secret": lambda body: (body, signed(body, "")),
    "a wrong secret": lambda body: (body, signed(body, OTHER)),
    "an old time": lambda body: (body, signed(body, late=302)),
    "a time to come": lambda body: (body, signed(body, late=-330)),
    "no header": lambda body: (body, None),
    "an empty header": lambda body: (body, ""),
    "a garbled header": lambda body: (body, "t=now,v1=zz,=,v1"),
    "a header that is no text": lambda body: (body, "t=1,v1=\u00e9"),
    "no signature of the scheme": lambda body: (body, signed(body).replace("v1=", "v0=")),
    "another time than was signed": lambda body: (body, signed(body).replace("t=", "t=1")),
    "a body written anew": _re_serialised,
    "a changed body": _changed,
    "a body that is no text": lambda body: (b"\xff" + body, signed(b"\xff" + body)),
}


@pytest.mark.parametrize("forged", FORGERIES.values(), ids=FORGERIES)
def test_a_forgery_is_refused_and_leaves_nothing(forged: Any):
    body, signature = forged(dump(event()))

    assert post(body, signature).status_code == 400
    assert not StripeEvent.objects.exists()
    assert not Alert.objects.exists()


@pytest.mark.parametrize("secrets", [[], [""], ["  "]])
def test_without_a_secret_nothing_is_believed(settings: Any, secrets: list[str]):
    settings.STRIPE_WEBHOOK_SECRETS = secrets
    body = dump(event())

    for secret in ("", " ", "  ", SECRET):
        assert post(body, signed(body, secret)).status_code == 400
    assert not StripeEvent.objects.exists()


def test_signatures_within_five_minutes_of_our_clock_are_believed():
    for late in (280, -280):
        body = dump(event())
        assert post(body, signed(body, late=late)).status_code == 200


def test_while_a_secret_is_rotated_both_are_believed(settings: Any):
    settings.STRIPE_WEBHOOK_SECRETS = [SECRET, OTHER]

    for secret in (SECRET, OTHER):
        body = dump(event())
        assert post(body, signed(body, secret)).status_code == 200
    body = dump(event())
    both = f"{signed(body, 'whsec_gone')},{signed(body, OTHER).partition(',')[2]}"
    assert post(body, both).status_code == 200
    assert StripeEvent.objects.count() == 3


@pytest.mark.parametrize(
    ("key", "live"),
    [("sk_test_hook", True), ("sk_live_hook", False), ("rk_live_hook", False)],
)
def test_an_event_of_the_other_mode_is_refused_and_told(settings: Any, key: str, live: bool):
    settings.STRIPE_SECRET_KEY = key
    body = dump(event(livemode=live))

    assert post(body, signed(body)).status_code == 400
    assert not StripeEvent.objects.exists()
    assert Alert.objects.get().kind == "stripe_webhook"


def test_an_event_of_another_account_is_refused_and_told():
    body = dump(event(account="acct_other"))

    assert post(body, signed(body)).status_code == 400
    assert not StripeEvent.objects.exists()
    assert "acct_other" in Alert.objects.get().says


@pytest.mark.parametrize(
    "told",
    [
        [],
        "evt_1",
        {"object": "v2.core.event", "id": "evt_1"},
        {**event(), "id": 7},
        {**event(), "id": "cus_1"},
        {**event(), "type": None},
        {**event(), "created": "today"},
        {**event(), "created": 10**20},
        {**event(), "livemode": "false"},
        {**event(), "data": {}},
        {**event(), "data": None},
    ],
)
def test_what_is_signed_but_no_event_is_refused(told: Any):
    body = dump(told)

    assert post(body, signed(body)).status_code == 400
    assert not StripeEvent.objects.exists()


def test_a_signed_body_that_is_not_json_is_refused():
    for body in (b"", b"{", b"[" * 100_000, b'{"created": NaN'):
        assert post(body, signed(body)).status_code == 400


def test_what_postgresql_cannot_keep_is_left_out_of_an_event():
    told = event()
    told["data"]["object"]["name"] = "Ed\0 \ud83d Quinn"
    body = dump(told)

    assert post(body, signed(body)).status_code == 200
    assert StripeEvent.objects.get().payload["data"]["object"]["name"] == "Ed ? Quinn"


def test_the_key_to_a_payment_is_not_kept_with_its_event():
    told = event("payment_intent.succeeded", "pi_1")
    told["data"]["object"]["client_secret"] = "pi_1_secret_2"
    body = dump(told)

    assert post(body, signed(body)).status_code == 200
    assert "client_secret" not in StripeEvent.objects.get().payload["data"]["object"]


def test_a_type_that_is_not_ours_is_acknowledged_and_done():
    body = dump(event("terminal.reader.action_failed", "tmr_1"))

    assert post(body, signed(body)).status_code == 200
    row = StripeEvent.objects.get()
    assert row.outcome == "not ours"
    assert row.handled_at == row.received_at
    assert inbox.waiting() == []


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete", "options"])
def test_only_post_is_answered(method: str):
    answer = getattr(Client(), method)("/hooks/stripe")

    assert answer.status_code == 405
    assert answer["Allow"] == "POST"


def test_a_body_that_is_too_large_is_refused_though_it_is_signed():
    body = dump(event(padding="x" * planes.MOST_HOOK_BYTES))

    assert post(body, signed(body)).status_code == 413
    assert not StripeEvent.objects.exists()


def test_no_secret_and_no_body_is_logged(caplog: pytest.LogCaptureFixture):
    body = dump(event(about="cus_canary"))
    post(body, signed(body, OTHER))
    post(body, signed(body))

    assert "webhook refused" in caplog.text
    assert "cus_canary" not in caplog.text
    assert SECRET not in caplog.text


def test_while_it_cannot_be_stored_stripe_is_asked_to_come_again():
    body = dump(event())
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as other:
        other.execute("LOCK TABLE billing_stripeevent IN ACCESS EXCLUSIVE MODE")
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '20ms'")
        before = transaction.savepoint()
        assert post(body, signed(body)).status_code == 503
        transaction.savepoint_rollback(before)

    assert not StripeEvent.objects.exists()
    assert post(body, signed(body)).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_an_event_that_is_new_or_still_waits_is_handed_to_a_job_after_the_commit(
    monkeypatch: pytest.MonkeyPatch,
):
    sent: list[tuple[str, Any]] = []
    monkeypatch.setattr(app, "send_task", lambda name, kwargs: sent.append((name, kwargs)))
    told = event()
    body = dump(told)
    wanted = ("billing.handle_event", {"event": told["id"]})

    post(body, signed(body))
    post(body, signed(body))
    assert sent == [wanted, wanted]

    StripeEvent.objects.update(handled_at=clock.now())
    post(body, signed(body))
    assert len(sent) == 2


@pytest.mark.django_db(transaction=True)
def test_an_event_whose_job_cannot_be_sent_is_acknowledged_because_it_is_stored(
    monkeypatch: pytest.MonkeyPatch,
):
    def unreachable(name: str, kwargs: Any) -> None:
        raise BrokerUnreachable

    monkeypatch.setattr(app, "send_task", unreachable)
    told = event()
    body = dump(told)

    assert post(body, signed(body)).status_code == 200
    assert inbox.waiting() == [told["id"]]


# ── Before Django ────────────────────────────────────────────────────────────────────────────────


async def _ask(chunks: list[bytes], headers: list[tuple[bytes, bytes]]) -> tuple[int, int]:
    """The status, and how many chunks were taken."""
    waiting, sent = list(chunks), []

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/hooks/stripe",
        "raw_path": b"/hooks/stripe",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await asgi.Application()(scope, receive, send)
    return sent[0]["status"], len(chunks) - len(waiting)


async def test_a_body_that_says_that_it_is_too_large_is_not_read():
    length = str(planes.MOST_HOOK_BYTES + 1).encode()

    assert await _ask([b"x"], [(b"content-length", length)]) == (413, 0)
    assert await _ask([b"x"], [(b"content-length", b"many")]) == (413, 0)


async def test_a_body_without_a_length_is_read_no_further_than_it_may_be():
    chunks = [b"x" * 64 * 1024] * 100

    assert await _ask(chunks, [(b"transfer-encoding", b"chunked")]) == (413, 5)


async def test_a_forgery_of_the_largest_size_is_read_and_refused():
    chunks = [b"x" * 64 * 1024] * 4

    assert await _ask(chunks, []) == (400, 4)
