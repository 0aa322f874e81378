"""What the tests of webhooks share: a receiver that answers, and events to tell it of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from accounts import webhooks
from accounts.models import Organization, User, WebhookDelivery, WebhookEndpoint, WebhookEvent
from accounts.webhooks import endpoints
from aggregator.lib import clock
from tests.accounts.webhooks.receiving import Receiver, receiving

BUDGET = {"budget": "bud_1", "used": "80.25", "percent": 80}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def add(home: Organization, by: User, url: str, *wanted: str) -> tuple[WebhookEndpoint, str]:
    return endpoints.add(home, name="finance", url=url, wanted=wanted, by=by)


def tell(home: Organization, key: str = "one", type: str = "budget.exceeded") -> WebhookEvent:
    event = webhooks.send(home.pk, type, BUDGET, key=key)
    assert event is not None
    return event


def waits_no_more() -> None:
    """As if every pause were over."""
    WebhookDelivery.unscoped.exclude(next_try_at=None).update(next_try_at=clock.now() - timedelta(seconds=1))


def the_delivery() -> WebhookDelivery:
    return WebhookDelivery.unscoped.select_related("event", "endpoint").get()
