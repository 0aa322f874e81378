"""The list of models: filters, orders, pages, and what it says of each; measured where it was measured."""

from __future__ import annotations

import dataclasses
import re

import pytest

from aggregator.lib import cursors
from billing.core.pricing import parse_price
from routing import showcase
from routing.core import browsing, condition
from routing.core.listing import Endpoint, Listing, Model, Provider
from routing.core.vitals import NOTHING, Percentiles, Recent, Snapshot, Vitals
from routing.pages.models import MOST
from tests.routing.simulated import sync_simulated

SLUG = "p:acme/m"
FAST = Percentiles(0.25, 0.3, 0.4, 0.9)
PACE = Percentiles(88.0, 80.0, 70.0, 20.0)
WELL = Vitals(
    attempts=40, ttft_seconds=FAST, tokens_per_second=PACE, uptime_5m=1.0, uptime_30m=0.9996, uptime_1d=0.98
)


def endpoint(model="acme/m", provider="p", **facts):
    own = {"context_length": 128_000, "auto": False, "listed": True, "created": 0} | facts.pop("own", {})
    able = frozenset(facts.pop("able", {"tools", "json_schema"}))
    described = Model(model, model, max_output=4000, model_class="standard", capabilities=able, **own)
    host = Provider(provider, provider.upper(), "openai", "", "", frozenset(), **facts.pop("host", {}))
    price = parse_price(1, facts.pop("price", {"input": "1", "output": "2"}))
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
    return showcase.offered(endpoint(**facts), vitals)


def found(among, can=(), **asked):
    wanted = browsing.filters(asked, can, among)
    return [row.model.slug for row in browsing.rows(among, NOTHING, wanted)]


def test_without_traffic_the_catalog_is_quoted_and_said_to_be_that():
    quiet = offered()

    assert (quiet.ttft.now, quiet.ttft.expected) == ("", "0.50 s")
    assert (quiet.pace.now, quiet.pace.expected) == ("", "60")
    assert (quiet.state.words, quiet.state.uptime) == ("no traffic yet", "")


def test_measured_figures_are_medians_beside_the_catalogs():
    live = offered(WELL)

    assert (live.ttft.now, live.ttft.expected, live.ttft_slow) == ("0.25 s", "0.50 s", "0.40 s")
    assert (live.pace.now, live.pace.expected) == ("88", "60")
    assert (live.state.words, live.state.tint) == ("healthy", "green")
    # Never rounded up to all.
    assert live.uptimes == (("5 min", "100 %"), ("30 min", "99.9 %"), ("1 day", "98 %"))


@pytest.mark.parametrize(
    ("changes", "words", "state"),
    [
        ({"recent": Recent(attempts=4, failures=2)}, "failing: put last", "failing"),
        ({"recent": Recent(attempts=2, failures=2)}, "healthy", "normal"),
        ({"recent": Recent(attempts=5, rate_limited=3)}, "at capacity", "degraded"),
        ({"healthy": False}, "down: put last", "failing"),
        ({"healthy": True, "attempts": 0}, "healthy", "normal"),
        ({"uptime_5m": 0.94}, "unsteady", "degraded"),
        ({"uptime_5m": 0.5}, "failing often", "failing"),
        ({"attempts": 0, "uptime_5m": None}, "no traffic lately", "normal"),
        ({"attempts": 0, "uptime_5m": None, "uptime_30m": 0.9}, "unsteady", "degraded"),
    ],
)
def test_pages_and_api_tell_one_state_of_an_endpoint(changes, words, state):
    fields = {name: getattr(WELL, name) for name in WELL.__struct_fields__}
    vitals = Vitals(**{**fields, **changes})

    assert offered(vitals).state.words == words
    assert condition.of(vitals).state == state


def test_what_sets_an_endpoint_apart_is_told():
    apart = offered(
        quantization="fp8", max_context=32_000, host={"region": "eu", "data_policy": "zero-retention"}
    )
    plain = offered()

    assert (plain.details, plain.policy, plain.context) == ((), "data policy not stated", "128K")
    assert (apart.details, apart.policy, apart.context) == (("fp8", "EU"), "keeps nothing", "32K")


def test_every_price_of_an_endpoint_is_told_with_the_mark_up_that_the_reader_pays():
    stated = {
        "input": "1",
        "output": "2",
        "cache_read": "0.1",
        "tiers": [{"above": 200_000, "input": "2"}],
        "windows": [{"from": "16:30", "until": "00:30", "input": "0.5", "tiers": []}],
    }
    bare = offered(price=stated).rates
    marked = showcase.offered(endpoint(price=stated), None, markup=browsing.Decimal("0.1")).rates

    assert [line.when for line in bare] == ["", "above 200K of prompt", "16:30–00:30 UTC"]
    assert [line.input for line in bare] == ["$1.00", "$2.00", "$0.50"]
    assert (bare[0].cache_read, bare[0].cache_write) == ("$0.10", "$1.00")
    assert [line.input for line in marked] == ["$1.10", "$2.20", "$0.55"]


def test_a_model_is_found_where_one_endpoint_passes_every_filter():
    cheap = endpoint("a/x", "cheap", price={"input": "1", "output": "1"})
    safe = endpoint(
        "a/x", "safe", price={"input": "3", "output": "3"}, host={"data_policy": "zero-retention"}
    )
    among = listing(cheap, safe, endpoint("b/y", able=()))

    assert found(among, out="1") == ["a/x"] and found(among, policy="zdr") == ["a/x"]
    assert found(among, out="1", policy="zdr") == []
    (row,) = browsing.rows(among, NOTHING, browsing.filters({"policy": "zdr"}, (), among))
    assert showcase.card(row, NOTHING).output == "$3.00"  # of those that pass


def test_each_filter_asks_what_it_says():
    caching = {"input": "1", "output": "2", "cache_read": "0.1"}
    among = listing(
        endpoint("a/plain", able=(), own={"context_length": 8000}, parameters=frozenset({"seed"})),
        endpoint("a/able", "q", able={"vision", "reasoning", "tools"}, price=caching, host={"region": "eu"}),
        endpoint("b/withheld", able={"tools"}, parameters=frozenset({"temperature"}), own={"auto": True}),
    )

    assert found(among, can=["tools"]) == found(among, reads="image") == ["a/able"]
    assert found(among, can=["tools", "caching", "reasoning"]) == ["a/able"]
    assert found(among, context="32000") == ["a/able", "b/withheld"]
    assert found(among, parameter="seed") == ["a/able", "a/plain"]  # a catalog that is silent: the usual
    assert found(among, author="b") == found(among, pool="auto") == ["b/withheld"]
    assert found(among, provider="q") == found(among, region="eu") == ["a/able"]
    assert found(among, **{"in": "0.5"}) == [] and len(found(among, **{"in": "1"})) == 3
    assert found(among, q="ABLE q") == ["a/able"] and len(found(among, q="tools")) == 2
    assert len(found(among, **{"in": "x", "context": "²", "class": "best", "sort": "?"})) == 3


def test_an_empty_list_names_the_filters_without_which_it_would_not_be():
    among = listing(endpoint("a/x"), endpoint("b/y", able=()))
    wanted = browsing.filters({"author": "b", "context": "1000"}, ["tools"], among)

    assert browsing.rows(among, NOTHING, wanted) == []
    told = [(one.words, count) for one, count in browsing.without(among, wanted)]
    assert told == [("tools", 1), ("b", 1)]


def test_what_is_not_listed_is_on_no_list():
    among = listing(endpoint("a/x"), endpoint("a/hidden", own={"listed": False}))

    assert found(among) == ["a/x"] == among.shown()


def test_a_model_does_as_its_best_endpoint_does_and_says_how_many_fail():
    down = Vitals(attempts=9, uptime_5m=0.0, uptime_1d=0.4)
    among = listing(endpoint("a/x", "one"), endpoint("a/x", "two"))
    seen = Snapshot(1, 0.0, {"one:a/x": WELL, "two:a/x": down})

    state = showcase.card(browsing.row(among, "a/x", seen), seen).state
    assert (state.words, state.tint, state.uptime) == ("1 of 2 failing", "green", "98 %")


@pytest.mark.parametrize("sort", [*browsing.SORTS, *(f"-{name}" for name in browsing.SORTS)])
def test_pages_in_every_order_leave_none_out(sort):
    many = listing(*(endpoint(f"acme/m{n:02}", own={"created": n % 3}) for n in range(23)))
    seen = Snapshot(1, 0.0, {f"p:acme/m{n:02}": WELL for n in range(5)})
    rows, after, names = browsing.rows(many, seen, []), "", []
    for _ in range(9):
        page = cursors.placed(
            rows,
            {"sort": sort, "after": after},
            sorts=browsing.SORTS,
            name=lambda row: row.model.slug,
            default="-new",
            size=5,
        )
        names += [row.model.slug for row in page.rows]
        if not page.more:
            break
        after = re.search("after=([^&]+)", page.more)[1]

    assert len(names) == len(set(names)) == 23
    if sort in ("uptime", "-uptime"):
        assert set(names[:5]) == {f"acme/m{n:02}" for n in range(5)}  # what is not known comes last


def test_calls_of_some_sizes_are_priced_at_the_cheapest_that_has_room():
    small = endpoint("a/x", "small", max_context=8000)
    large = dataclasses.replace(
        endpoint("a/x", "large", price={"input": "2", "output": "4"}), max_output=16_000
    )

    one, ten = showcase.examples([small, large], browsing.Decimal("0.1"))
    assert (one.cost, one.provider, ten.cost, ten.provider) == ("$0.0033", "SMALL", "$0.066", "LARGE")


@pytest.fixture
def catalog(db, settings, tmp_path):
    settings.SANDBOX_BASE_URL = "http://127.0.0.1:1"
    sync_simulated(tmp_path)


def test_the_next_page_is_asked_for_with_the_same_search(client, catalog, monkeypatch):
    monkeypatch.setattr("routing.pages.models.MOST", 3)

    def asked(address, headers=None):
        return client.get(address, headers=headers)

    first = asked("/models?q=sandbox&sort=name").content.decode()
    count = int(re.search(r"<strong>(\d+)</strong>", first)[1])
    more = re.search(r'hx-get="(/models)?(\?q=sandbox&amp;sort=name&amp;after=[^"]+)"', first)[2]
    rest = asked("/models" + more.replace("&amp;", "&"), {"HX-Request": "true"}).content.decode()

    assert MOST > 3 < count and first.count('scope="row"') == 3
    assert 0 < rest.count('scope="row"') <= 3 and "<table" not in rest
    assert "Back to the first models" in asked("/models" + more.replace("&amp;", "&")).content.decode()
    for nonsense in ("-1", "x", "9" * 30, "²", "WzEsIDJd", "W1tdLCAieCJd"):
        assert "<html" in asked(f"/models?after={nonsense}").content.decode()


def test_a_search_answers_with_its_part_and_a_tidy_address(client, catalog):
    answer = client.get(
        "/models", {"q": "", "can": "tools", "in": "", "sort": "-new"}, headers={"HX-Request": "true"}
    )

    assert answer["HX-Replace-Url"] == "/models?can=tools" and "<html" not in answer.content.decode()


def test_fault_models_can_be_called_and_stand_in_no_list(client, catalog):
    assert "sandbox/fault" not in client.get("/models?q=sandbox").content.decode()
    page = client.get("/models/sandbox/fault-500").content.decode()
    assert "This model is for tests" in page


def test_the_empty_page_links_to_the_list_without_what_excludes_all(client, catalog):
    page = client.get("/models", {"provider": "sandbox-swift", "in": "0.0001"}).content.decode()

    assert "No model matches" in page and 'href="/models?provider=sandbox-swift"' in page


def test_a_change_of_the_catalog_is_on_the_page_at_once(client, catalog):
    from routing import sync
    from routing.models import Model as Row

    assert "Pebble" in client.get("/models").content.decode()
    row = Row.objects.get(slug="sandbox/pebble")
    row.name = "Cobblestone"
    sync.save_edit(row, ["name"])
    assert "Cobblestone" in client.get("/models").content.decode()
