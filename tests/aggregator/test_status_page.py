"""The status page: what is up, what troubles customers, days of uptime, and what we add ourselves."""

from __future__ import annotations

import time
from datetime import timedelta

import msgspec
import pytest

from aggregator.lib import clock, kv
from billing import alerts, notices
from routing import figures, roll_ups, uptimes
from routing.core.folds import GATEWAY, Fold
from routing.core.histogram import OWN, add
from routing.core.live import Live
from routing.core.vitals import Snapshot, Vitals
from routing.models import EndpointDay, Window
from tests.routing.simulated import sync_simulated

DEEP, STEADY = "sandbox-deep:sandbox/meridian", "sandbox-steady:sandbox/meridian"


@pytest.fixture(autouse=True)
def _catalog(db, settings, tmp_path):
    settings.SANDBOX_BASE_URL = "http://127.0.0.1:1"
    sync_simulated(tmp_path)


def text(answer):
    assert answer.status_code == 200
    return answer.content.decode()


def part(client):
    """As it is this moment, not as it was for whoever asked a second ago."""
    kv.cache().delete("site:status", "site:status:fresh")
    return text(client.get("/status?part=now", headers={"HX-Request": "true"}))


def day(endpoint, days_ago, up, down):
    start = uptimes.first_day(clock.now()) + timedelta(days=uptimes.DAYS - 1 - days_ago)
    EndpointDay.objects.create(endpoint=endpoint, start=start, windows=1, up=up, down=down, fold=[])


def test_without_gateways_and_workers_the_page_says_so(client):
    page = text(client.get("/status"))

    assert "Something does not work" in page and "no process has been heard of" in page
    assert "silent: postings wait" in page and "Nothing has been measured yet" in page
    assert "style=" not in page


def test_workers_are_up_while_they_look(client):
    kv.cache().set(figures.HEAD, f"1 {time.time():.3f}")
    assert "running" in part(client)
    kv.cache().set(figures.HEAD, f"1 {time.time() - 30:.3f}")
    assert "slow" in part(client)


def test_incidents_are_told_in_words_for_customers_and_nothing_of_the_operators(client):
    alerts.raise_alert("backlog", "letters", "17 letters wait")
    alerts.raise_alert("silence", "billing.send_mail", "The job is silent")
    alerts.raise_alert("fraud_warning", "ch_1", "a secret of somebody")

    page = part(client)
    assert [notice.words for notice in notices.open_now()] == ["E-mail is sent later than usual."]
    assert "E-mail is sent later than usual." in page and "secret" not in page and "letters wait" not in page


def test_a_provider_that_fails_now_is_named(client):
    seen = Snapshot(1, time.time(), {DEEP: Vitals(attempts=9, uptime_5m=0.1)})
    kv.cache().set(figures.SNAPSHOT, figures.encode(seen))

    assert "Deep (simulated): 1 of 3 endpoints failing" in part(client)


def test_days_are_shown_by_provider_and_by_model_the_worst_first_and_open_to_endpoints(client):
    day(DEEP, 3, 90, 10)
    day(STEADY, 3, 100, 0)
    day(STEADY, 200, 0, 100)  # long ago
    day("sandbox-faults:sandbox/fault-500", 3, 0, 100)  # on no list

    providers, models = text(client.get("/status")), text(client.get("/status?by=model"))
    assert providers.index("Deep (simulated)") < providers.index("Steady (simulated)")
    assert "90 %" in providers and "100 %" in providers and "Faults" not in providers
    assert "sandbox/meridian" in models and "95 %" in models and "of 200" in models
    opened = text(client.get("/status?open=sandbox-deep"))
    assert DEEP in opened and DEEP not in providers
    assert "<html" not in text(client.get("/status?open=sandbox-deep", headers={"HX-Request": "true"}))
    assert client.get("/status?open=nobody", headers={"HX-Request": "true"}).status_code == 404


def test_the_page_is_made_once_for_all_who_ask_within_seconds(client, django_assert_num_queries):
    first = text(client.get("/status"))
    day(DEEP, 3, 90, 10)
    raised = kv.cache().set(figures.HEAD, f"1 {time.time():.3f}")

    with django_assert_num_queries(0):
        again = text(client.get("/status"))
        moment = text(client.get("/status?part=now", headers={"HX-Request": "true"}))

    assert raised and "silent: postings wait" in moment and moment.strip() in again
    assert again == first
    assert "Deep (simulated)" in text(client.get("/status?sort=name")), "another order is made for who asks"
    assert "running" in part(client)


def test_many_models_are_one_query_of_days(client, django_assert_max_num_queries):
    for number in range(uptimes.DAYS):
        day(DEEP, number, 1, 0)
    client.get("/status")
    with django_assert_max_num_queries(9):
        client.get("/status?by=model")


def test_what_we_add_to_a_call_is_told_from_the_workers_to_the_page(client):
    live = Live()
    for milliseconds in (1, 1, 1, 1, 1, 1, 1, 1, 1, 8):
        live.added(milliseconds / 1000)
    live.keep_only(frozenset())
    fold = live.folds[GATEWAY]
    assert not fold.worked  # they are attempts of endpoints, not of ours
    stored = msgspec.to_builtins(fold, str_keys=True)
    Window.objects.create(endpoint=GATEWAY, start=clock.now() - timedelta(minutes=7), fold=stored)
    roll_ups.roll_up()

    hour, whole = uptimes.added_in_hour(), uptimes.added_in_day()
    assert hour == whole and hour.calls == 10
    assert hour.p50_seconds == pytest.approx(0.001, rel=0.05)
    assert hour.p95_seconds == pytest.approx(0.008, rel=0.05)
    assert "10 calls" in part(client)


def test_own_times_of_microseconds_are_told_apart():
    fold = Fold()
    for micros in (20, 200, 2000):
        add(fold.ours, micros / 1e6, OWN)
    assert len(fold.ours) == 3
