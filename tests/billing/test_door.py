"""What each answer of Stripe means for a caller: above all, whether what was asked may have been done."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import transaction

from aggregator.lib import clock
from billing.models import Customer, StripeInvoice, Subscription
from billing.payments import postpaid, subscriptions
from billing.stripe_client import door, payments
from tests.billing import books


@pytest.fixture(autouse=True)
def _one_try(settings, monkeypatch):
    monkeypatch.setattr(door, "RETRIES", 0)
    settings.STRIPE_SECRET_KEY = "sk_test_" + "door"


ASKED: list[str] = []
"""The paths that the server below was asked for."""


@contextmanager
def answering(status: int, body: str):
    """A server that says this to everybody; its address."""
    ASKED.clear()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            ASKED.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *_):
            """Nobody reads it."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "means"),
    [
        (200, "<html>hello</html>", door.StripeUnreachable),
        (404, "<html>no such page</html>", door.StripeUnreachable),
        (200, '{"id": "re_1", "amo', door.StripeUnreachable),
        (409, '{"error": {"message": "in use", "code": "idempotency_key_in_use"}}', door.StripeUnreachable),
        (429, '{"error": {"message": "slowly"}}', door.StripeUnreachable),
        (500, '{"error": {"message": "ours"}}', door.StripeUnreachable),
        (401, '{"error": {"message": "no such key"}}', door.StripeUnreachable),
        (
            402,
            '{"error": {"type": "card_error", "message": "no"}}',
            door.CardDeclined,
        ),
        (404, '{"error": {"type": "invalid_request_error", "message": "none"}}', door.NotAtStripe),
        (400, '{"error": {"type": "invalid_request_error", "message": "bad"}}', door.StripeRefused),
    ],
)
def test_only_a_refusal_in_stripes_own_words_says_that_nothing_happened(settings, status, body, means):
    with answering(status, body) as settings.STRIPE_API_BASE, pytest.raises(Exception) as raised:
        payments.give_back("pi_1", cents=5_00, is_fraud=False, metadata={}, key="refund-1")

    assert type(raised.value) is means


@pytest.mark.django_db
def test_stripe_is_never_asked_within_a_transaction(settings):
    """A Stripe slower than half a minute would break it, and its locks would last as long."""
    with (
        answering(200, "{}") as settings.STRIPE_API_BASE,
        pytest.raises(RuntimeError, match="outside of transactions"),
        transaction.atomic(),
    ):
        payments.refund("re_1")

    assert ASKED == []


@pytest.mark.django_db
@pytest.mark.parametrize("look", [subscriptions.end_grace, postpaid.check_overdue])
def test_while_stripe_is_away_a_job_asks_once_and_leaves_the_rest(settings, look):
    """Each question may wait for a minute; hundreds of them would keep a worker for hours."""
    long_ago = clock.now() - timedelta(days=60)
    for slug in ("acme", "other"):
        owner = books.make_organization(slug)
        Customer.objects.create(organization=owner, stripe_id=f"cus_{slug}")
        Subscription.objects.create(
            organization=owner, plan="pro", state="open", session_id=f"cs_{slug}", created_at=long_ago
        )
        StripeInvoice.objects.create(
            organization=owner,
            purpose="postpaid",
            stripe_id=f"in_{slug}",
            state="open",
            month=long_ago.date().replace(day=1),
            cents=5_00,
            due_at=long_ago,
        )

    with answering(500, "{}") as settings.STRIPE_API_BASE:
        assert look() == 2

    assert len(ASKED) == 1
