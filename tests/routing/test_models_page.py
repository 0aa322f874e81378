"""What the page of models says of each endpoint: measured where it was measured, and no more than that."""

from __future__ import annotations

import dataclasses
import re

import pytest
from django.core.management import call_command

from billing.pricing import parse_price
from routing import showcase
from routing.listing import Endpoint, Listing, Model, Provider
from routing.vitals import NOTHING, Percentiles, Recent, Snapshot, Vitals

SLUG = "p:acme/m"
FAST = Percentiles(0.25, 0.3, 0.4, 0.9)
PACE = Percentiles(88.0, 80.0, 70.0, 20.0)
WELL = Vitals(
    attempts=40, ttft_seconds=FAST, tokens_per_second=PACE, uptime_5m=1.0, uptime_30m=0.9996, uptime_1d=0.98
)


def endpoint(model="acme/m", provider="p", **facts):
    described = Model(model, model, 128_000, 4000, "standard", False, frozenset({"tools", "json_schema"}), 0)
    host = Provider(provider, provider.upper(), "openai", "", "", frozenset(), **facts.pop("host", {}))
    price = parse_price(1, {"input": "1", "output": facts.pop("output", "2")})
    return Endpoint(f"{provider}:{model}", host, described, model, 4000, price, 0.5, 60.0, **facts)


def listing(*endpoints):
    by_model = {}
    for each in endpoints:
        by_model.setdefault(each.model.slug, []).append(each)
    return Listing(
        1,
        {each.model.slug: each.model for each in endpoints},
        {slug: tuple(found) for slug, found in by_model.items()},
    )


def offered(vitals=None, **facts):
    seen = NOTHING if vitals is None else Snapshot(1, 0.0, {SLUG: vitals})
    (row,) = showcase.page(listing(endpoint(**facts)), seen).rows
    return row.endpoints[0]


def test_without_traffic_the_catalog_is_quoted_and_said_to_be_that():
    quiet = offered()

    assert (quiet.ttft.now, quiet.ttft.expected) == ("", "0.50 s")
    assert (quiet.pace.now, quiet.pace.expected) == ("", "60")
    assert (quiet.state.words, quiet.state.uptime) == ("no traffic yet", "")


def test_measured_figures_are_medians_beside_the_catalogs():
    live = offered(WELL)

    assert (live.ttft.now, live.ttft.expected, live.pace.now, live.pace.expected) == (
        "0.25 s",
        "0.50 s",
        "88",
        "60",
    )
    assert (live.state.words, live.state.tint) == ("healthy", "green")
    assert live.state.uptime == "99.9 % in 30 min, 98 % in a day"  # never rounded up to all


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recent": Recent(attempts=4, failures=2)}, "failing: put last"),
        ({"recent": Recent(attempts=2, failures=2)}, "healthy"),
        ({"recent": Recent(attempts=5, rate_limited=3)}, "at capacity"),
        ({"healthy": False}, "down: put last"),
        ({"healthy": True, "attempts": 0}, "healthy"),
        ({"uptime_5m": 0.94}, "unsteady"),
        ({"attempts": 0, "uptime_5m": None}, "no traffic lately"),
    ],
)
def test_the_state_is_told_in_words(changes, words):
    fields = {name: getattr(WELL, name) for name in WELL.__struct_fields__}

    assert offered(Vitals(**{**fields, **changes})).state.words == words


def test_what_sets_an_endpoint_apart_is_told():
    plain = offered()
    apart = offered(
        quantization="fp8", max_context=32_000, host={"region": "eu", "data_policy": "zero-retention"}
    )

    hourly = {"input": "1", "output": "2", "windows": [{"from": "16:30", "until": "00:30", "input": "0.5"}]}
    by_the_hour = dataclasses.replace(endpoint(), price=parse_price(1, hourly))

    (row,) = showcase.page(listing(by_the_hour), NOTHING).rows
    assert row.endpoints[0].details == ("price by the hour",)
    assert (plain.details, plain.policy) == ((), "data policy not stated")
    assert (apart.details, apart.policy) == (("fp8", "32,000 context", "EU"), "keeps nothing")


def test_hundreds_of_models_come_in_pages_that_leave_none_out():
    many = listing(
        *(endpoint(f"acme/m{n:03}") for n in range(95)), endpoint("zeta/z"), endpoint("zeta/z", "q")
    )
    auto = dataclasses.replace(many.models["zeta/z"], auto=True)
    many = Listing(1, {**many.models, "zeta/z": auto}, many.endpoints)

    seen, start, starts = [], 0, []
    while start is not None:
        page = showcase.page(many, NOTHING, start=start)
        assert page.count == 96 and len(page.rows) <= showcase.MOST
        seen += [row.model.slug for row in page.rows]
        starts.append(start)
        start = page.more

    assert seen == ["zeta/z", *(f"acme/m{n:03}" for n in range(95))]
    assert starts == [0, 30, 60, 90]
    assert showcase.page(many, NOTHING, query="m07").count == 10
    assert showcase.page(many, NOTHING, start=10**6).rows == ()


@pytest.mark.django_db
def test_the_next_page_is_asked_for_with_the_same_search(client, settings):
    settings.SANDBOX_BASE_URL = "http://127.0.0.1:1"
    call_command("sync_catalog")

    def asked(headers=None, **query):
        return client.get("/models", {"q": "sandbox", **query}, headers=headers).content.decode()

    first = asked()
    rest = asked({"HX-Request": "true"}, **{"from": showcase.MOST})
    count = int(re.search(r"(\d+) models</p>", first)[1])

    assert 'hx-get="/models?q=sandbox&amp;from=30"' in first and "<html" in first
    assert first.count('scope="rowgroup"') == showcase.MOST
    assert 0 < rest.count('scope="rowgroup"') == min(count - showcase.MOST, showcase.MOST)
    assert "<table" not in rest
    assert 'href="/models?q=sandbox">Back to the first models' in asked(**{"from": 30})
    for nonsense in ("-1", "x", "9" * 30, "²"):
        assert "<html" in asked(**{"from": nonsense})
