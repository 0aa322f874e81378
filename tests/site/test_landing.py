"""The first page says what is so: numbers from the rows, samples from the code that serves calls."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from aggregator.lib import clock, kv
from aggregator.site import samples
from aggregator.site.kept import kept
from billing.core import pricing
from billing.core.usage import Usage
from routing import figures, lately, snapshot
from routing.core import reach
from routing.core.folds import Fold
from routing.core.vitals import NOTHING
from routing.models import Model, Window
from tests.routing.selecting import THREE, endpoint, listing_of


def window(ago: timedelta, fold: Fold, slug: str = "p:a/m") -> None:
    Window.objects.create(
        endpoint=slug,
        start=clock.now() - ago,
        worked=fold.worked,
        failures=fold.failures,
        fold=msgspec.to_builtins(fold, str_keys=True),
    )


@pytest.mark.django_db
def test_the_numbers_are_those_of_the_rows_and_of_what_is_in_no_row_yet():
    quick = Fold(worked=30, failures=10, ttft={40: 30}, pace={80: 30})
    window(timedelta(minutes=30), quick)
    window(timedelta(minutes=30), Fold(worked=5, failures=0, ttft={90: 5}, probes=9), "q:a/m")
    window(timedelta(hours=5), Fold(worked=7, failures=3, ttft={10: 99}))
    window(timedelta(hours=25), Fold(worked=1000))
    told = kv.cache().pipeline()
    figures.tell(
        told, figures.stretch(clock.now().timestamp()), "w1", {"p:a/m": Fold(worked=8, ttft={40: 8})}
    )
    told.execute()

    seen = lately.seen()

    assert (seen.hours[-1], seen.hours[-6], seen.worked, seen.failures) == (30 + 5 + 8, 7, 50, 13)
    assert seen.success == 50 / 63
    assert seen.ttft_seconds == pytest.approx(0.001 * 2 ** (40.5 / 8))  # of the last hour alone
    assert seen.tokens_per_second == pytest.approx(0.1 * 2 ** (80.5 / 8))


@pytest.mark.django_db
def test_without_traffic_nothing_is_made_up(client):
    seen = lately.seen()

    assert (seen.worked, seen.success, seen.ttft_seconds, seen.tokens_per_second) == (0, None, None, None)
    page = client.get("/").content.decode()
    assert "no call in the last hour" in page and "no attempt at a provider in 24 hours" in page


@pytest.mark.django_db
def test_the_first_page_counts_what_can_be_called_and_shows_where_a_call_would_go(client, settings):
    settings.SANDBOX_BASE_URL = "http://127.0.0.1:1"
    call_command("sync_catalog")

    page = client.get("/").content.decode()
    numbers = client.get("/numbers").content.decode()

    assert numbers.strip() in page and "<html" not in numbers
    assert "Three promises" in page and "What each of these is told" in page
    assert "sandbox" in page and "https://openrouter.ai/api/v1" in page


def test_samples_are_what_the_selector_chooses_and_billing_charges():
    found = samples.of(THREE, NOTHING, markup=Decimal("0.1"))
    charge = pricing.charge(
        Usage(input=samples.PROMPT, output=samples.ANSWER), THREE.endpoints["a/m0"][1].price, Decimal("0.1")
    )

    assert [pick.provider for pick in found.picks][-1] == "P1"  # the cheapest
    assert found.receipt.charge_nanos == charge.nanos
    assert found.picture.considered == 3
    assert found.budget.passed + found.budget.stopped == samples.AT_ONCE
    hold = pricing.worst(samples.PROMPT, samples.ANSWER, THREE.endpoints["a/m0"][1].price, Decimal("0.1"))
    assert found.budget.passed == min(samples._limit(hold) // hold, samples.AT_ONCE)


def test_with_one_endpoint_or_none_there_is_still_a_page():
    assert samples.of(listing_of(), NOTHING, markup=Decimal(0)) is None
    alone = samples.of(listing_of(endpoint()), NOTHING, markup=Decimal(0))
    assert alone.plot is None and len(alone.picks) == 3
    free = samples.of(listing_of(endpoint(input="0", output="0")), NOTHING, markup=Decimal(0))
    assert free.budget.passed == samples.AT_ONCE


def test_a_part_is_made_once_within_its_seconds_and_then_by_one_alone():
    made = []

    def make() -> str:
        made.append(1)
        return f"<b>{len(made)}</b>"

    assert [kept("t", 60, make) for _ in range(3)] == ["<b>1</b>"] * 3
    kv.cache().delete("site:t:fresh")
    assert [kept("t", 60, make) for _ in range(2)] == ["<b>2</b>"] * 2


@pytest.mark.django_db
def test_models_that_no_list_shows_are_in_no_number_of_the_first_page(client, settings):
    settings.SANDBOX_BASE_URL = "http://127.0.0.1:1"
    call_command("sync_catalog")
    window(timedelta(minutes=30), Fold(worked=1, failures=41), "sandbox-faults:sandbox/fault-500")
    window(timedelta(minutes=30), Fold(worked=9), "sandbox-steady:sandbox/harbor")
    listing = snapshot.read()

    seen = lately.seen(listing.unshown_endpoint_slugs())

    assert (seen.worked, seen.failures) == (9, 0)
    assert len(listing.shown()) < len(listing.endpoints)
    numbers = " ".join(client.get("/numbers").content.decode().split())
    assert f">{len(listing.shown())}<" in numbers and f">{len(listing.endpoints)}<" not in numbers
    assert "faults" not in {host.slug.removeprefix("sandbox-") for host in reach.hosts(listing)}


@pytest.mark.django_db
def test_a_public_page_reads_the_catalog_only_when_that_has_changed(client, settings):
    settings.SANDBOX_BASE_URL = "http://127.0.0.1:1"
    call_command("sync_catalog")
    assert b"author/model" not in client.get("/docs/models").content

    for path in ("/docs/models", "/docs/streaming", "/pricing"):
        with CaptureQueriesContext(connection) as asked:
            assert client.get(path).status_code == 200
        assert asked.captured_queries, "the version is asked for"
        assert not [each for each in asked.captured_queries if "routing_endpoint" in each["sql"]]

    Model.objects.update(enabled=False)
    snapshot.bump()
    assert b"author/model" in client.get("/docs/models").content
