"""The page of one call: its bill computed again, what else it might have cost, why it was free, its log."""

from __future__ import annotations

import html
import re
import subprocess
import sys

import pytest

from accounts import keys
from accounts.core import roles
from accounts.models import LogKey, Membership, User
from aggregator.lib import clock
from billing import otherwise, recompute
from billing.core import generation
from billing.core.money import show_usd
from billing.core.usage import NOTHING, Usage
from billing.models import Generation
from routing.models import RequestLog
from tests.billing import books

pytestmark = pytest.mark.django_db

CANDIDATE = {"endpoint": "thrift:acme/slow", "rank": 1, "cost_nanos": 100_000, "seconds": 0.4, "score": 0.0}
DECISION = {"asked": "auto", "candidates": [CANDIDATE], "considered": 1, "served": books.ENDPOINT}


@pytest.fixture
def acme():
    return books.make_organization()


@pytest.fixture
def key(acme):
    return books.make_key(acme)


@pytest.fixture
def owner(client, acme):
    user = User.objects.create(email="alice@example.com")
    Membership.objects.create(organization=acme, user=user, role=roles.OWNER)
    client.force_login(user)
    return user


def text(answer):
    assert answer.status_code == 200
    return answer.content.decode()


def page_of(call):
    return f"/activity/{generation.public_id(call.pk)}"


def test_a_page_computes_its_bill_again_from_what_is_stored(client, owner, key):
    row = books.deliver(key, books.make_price(), usage=Usage(input=3, output=5))
    assert f'id="computed">{show_usd(row.charge_nanos)}<' in text(client.get(page_of(row)))

    other = books.deliver(key, books.make_price(), usage=Usage(input=3), charge_nanos=row.charge_nanos * 2)
    page = text(client.get(page_of(other)))

    assert "cannot be computed again" in page and 'id="computed"' not in page
    with pytest.raises(Generation.DoesNotExist):
        recompute.again(books.make_organization("other").pk, row.pk)


def test_the_receipt_by_api_gives_the_same_sum_on_anybodys_machine(client, owner, acme):
    key, secret = keys.create(acme, name="API", by="test")
    row = books.deliver(
        key, books.make_price(stated={"input": "0.0005", "output": "8"}), usage=Usage(input=3)
    )
    shown = re.search(r'id="receipt-curl">(.*?)</code>', text(client.get(page_of(row))), re.S)
    program = html.unescape(shown[1]).partition("python3 -c '")[2].rstrip("'")
    receipt = client.get(
        f"/api/v1/generation?id={generation.public_id(row.pk)}", headers={"Authorization": f"Bearer {secret}"}
    )

    done = subprocess.run(
        [sys.executable, "-c", program], input=receipt.content, capture_output=True, check=True
    )

    assert done.stdout.decode() == f"{row.charge_nanos} computed, {row.charge_nanos} charged\n"


def test_a_page_says_tier_and_hours_of_its_price(client, owner, key):
    stated = {
        **books.STATED,
        "tiers": [{"above": 100, "input": "4"}],
        "windows": [{"from": "00:00", "until": "06:00", "input": "1", "tiers": []}],
    }
    price = books.make_price(stated=stated)
    long, short = (books.deliver(key, price, usage=Usage(input=size)) for size in (101, 100))
    night = books.deliver(key, price.within(1), price_window=1)

    assert "prompts of more than 100 tokens" in text(client.get(page_of(long)))
    assert "prompts of up to 100 tokens" in (page := text(client.get(page_of(short))))
    assert re.search(r"Price outside of</dt> <dd[^>]*>00:00–06:00 UTC", page)
    assert re.search(r"Price of the hours</dt> <dd[^>]*>00:00–06:00 UTC", text(client.get(page_of(night))))


def test_a_page_says_what_a_call_would_have_cost_otherwise(client, owner, key):
    stated = {"input": "2", "cache_read": "0.2", "output": "8"}
    books.make_price("thrift:acme/slow", {"input": "1", "output": "4"})
    started = clock.now()
    row = books.deliver(
        key,
        books.make_price(stated=stated),
        usage=Usage(input=100, cache_read=900, output=50),
        decision={
            **DECISION,
            "candidates": [CANDIDATE, {**CANDIDATE, "endpoint": "gone:acme/none", "rank": 2}],
        },
    )
    books.make_price("thrift:acme/slow", {"input": "7", "output": "7"})  # later than the call
    again = recompute.again(key.organization_id, row.pk)
    found = otherwise.of(
        again.usage, again.price, again.charge, served=row.endpoint, among=["thrift:acme/slow"], at=started
    )

    # 100 × 2 + 900 × 0.2 + 50 × 8 = 780 here, 1000 × 1 + 50 × 4 = 1200 there, each × 1.03; uncached 2400.
    assert [(each.endpoint, each.nanos, each.percent) for each in found.elsewhere] == [
        (books.ENDPOINT, 803_400, ""),
        ("thrift:acme/slow", 1_236_000, "+54 %"),
    ]
    assert (found.uncached, found.saved) == (2_472_000, 1_668_600)
    assert [(plan.quote.plan, plan.quote.charge_nanos, plan.here) for plan in found.plans] == [
        ("free", 858_000, False),
        ("pro", 819_000, False),
        ("business", 803_400, True),
    ]
    page = text(client.get(page_of(row)))
    for said in (
        "+$0.0004326",
        "$0.0016686",
        "$0.002472",
        "$0.000858",
        "900 prompt tokens came from a cache",
    ):
        assert said in page
    assert "gone:acme/none" not in page.partition('id="elsewhere"')[2]


def test_what_was_free_says_why_and_compares_with_nothing(client, owner, key):
    cut = {"endpoint": "thrift:acme/slow", "failure": "unreachable", "seconds": 0.1, "begun": True}
    price = books.make_price()
    broken = books.deliver(key, price, status="failed", free=True, decision={**DECISION, "attempts": [cut]})
    void = books.deliver(key, price, status="void", usage=NOTHING, price_id=None)
    charged = books.deliver(key, price, status="aborted", decision={"charged_because": "free_loss_per_day"})

    page = text(client.get(page_of(broken)))
    assert "The provider broke off in the middle of its answer. A failure of a provider" in page
    assert "It was free all the same." in page and 'id="elsewhere"' not in page
    assert "cut off by a crash of ours" in text(client.get(page_of(void)))
    assert "used up what we bear" in text(client.get(page_of(charged)))


def test_the_log_of_a_call_is_offered_where_there_is_one(client, owner, acme, key):
    logged, other = (books.deliver(key, books.make_price()) for _ in range(2))
    log_key = LogKey.objects.create(organization=acme, master="test", wrapped=b"")
    RequestLog.objects.create(
        id=logged.pk, organization=acme, key=key, log_key=log_key, at=clock.now(), sealed=b""
    )

    assert "Request and reply" in text(client.get(page_of(logged)))
    assert "Request and reply" not in text(client.get(page_of(other)))
