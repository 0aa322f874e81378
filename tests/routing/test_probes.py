"""Endpoints without traffic are probed: seldom, cheaply, and with a hint as the only result."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from aggregator.lib import kv
from billing.core.pricing import parse_price
from routing import figures, probes, snapshot
from routing.core import route
from routing.core.chat import Chat
from routing.core.folds import Fold
from routing.core.health import FALL_SECONDS, SUSPECT_SECONDS, THIN, Health
from routing.core.listing import Endpoint, Listing, Model, Provider
from routing.core.live import Live
from routing.core.vitals import Snapshot, Vitals
from routing.merging import Merger
from routing.models import ProbeDay, Window
from routing.probes import MOST_AT_A_PROVIDER, MOST_AT_ONCE, Prober
from tests.routing.sandboxes import HTTP, Running, running

pytestmark = pytest.mark.django_db

NOON = 1_800_014_400.0
PRICES = {"input": "0.40", "output": "1.20"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with running() as found:
        yield found


def offer(sandbox: Running, *names: str, **condition) -> None:
    """Models that the sandbox has, and what holds at all of them."""
    HTTP.post(f"{sandbox.base_url}/_sandbox/reset")
    said = {"provider": "sandbox-scene", "prices": PRICES, "ttft_ms": 80, "tokens_per_second": 200}
    offers = [{**said, "model": name, "tokens": 2} for name in names]
    holds = [{"provider": "sandbox-scene", **condition}] if condition else []
    HTTP.post(
        f"{sandbox.base_url}/_sandbox/conditions", json={"seed": 1, "offers": offers, "conditions": holds}
    ).raise_for_status()


def listed(*names: str, base_url: str, prices=PRICES, auto=True, provider="sandbox-scene") -> Listing:
    host = Provider(provider, provider, "openai", base_url, "simulated")
    models = {f"a/{n}": Model(f"a/{n}", n, 8000, 1000, "standard", auto, frozenset(), 0) for n in names}
    endpoints = {
        slug: (
            Endpoint(f"{provider}:{slug}", host, model, model.name, 1000, parse_price(1, prices), 0.1, 100),
        )
        for slug, model in models.items()
    }
    return Listing(1, models, endpoints)


def look(prober: Prober, listing: Listing, at: float, *, merger: Merger):
    """One look of the job, with this catalog, after one of the job that merges."""
    kv.gate().set(snapshot.VERSION_KEY, listing.version)
    prober._listing = listing
    merger.look(at)
    found = prober.look(at)
    merger.look(at)
    return found


def healthy(slug="sandbox-scene:a/m"):
    return figures.published().endpoints[slug].healthy


# ── Hysteresis and turns ─────────────────────────────────────────────────────────────────────────


def after(*results, every=5.0, start=None):
    state, now = start or Health(), 100.0
    for worked in results:
        state, now = state.after(worked, now), now + every
    return state.healthy


def test_it_takes_three_failures_over_ten_seconds_to_fall_and_two_answers_to_rise():
    assert after() is None
    assert after(True) is True
    assert after(True, False, False) is True
    assert after(True, False, False, False) is False
    assert after(*[False] * 3, every=FALL_SECONDS / 3) is None  # three in a row, but within a moment
    assert after(False, False, True, False, False) is True
    down = Health(healthy=False, row=-3)
    assert after(True, start=down) is False
    assert after(True, False, True, start=down) is False
    assert after(True, True, start=down) is True


def test_a_limit_of_rates_changes_nothing():
    assert after(False, False, None, False) is False
    assert after(False, False, None, None) is None
    assert after(True, None, None, None) is True


def test_what_was_probed_long_ago_or_has_traffic_of_its_own_is_not_known_by_its_probes():
    down = Health(healthy=False, row=-3, since=0.0, at=100.0)

    assert down.known(attempts=0, now=200.0) is False
    assert down.known(attempts=THIN, now=200.0) is None
    assert down.known(attempts=0, now=10_000.0) is None


def test_turns_spread_and_a_suspect_is_asked_again_soon():
    done = Health(healthy=True, row=1, at=100.0)
    first = [
        min(at for at in range(40, 80) if done.is_due(str(slug), now=100.0 + at, every=60))
        for slug in range(300)
    ]
    assert min(first) >= 45 and max(first) <= 75 and len(set(first)) > 20
    assert Health(row=-1, at=100.0).is_due("e", now=100.0 + SUSPECT_SECONDS * 1.25, every=60)


def test_only_thin_traffic_is_probed_and_only_a_few_at_once(settings):
    names = [f"m{number}" for number in range(9)]
    endpoints = [
        endpoint
        for provider in ("p0", "p1", "p2", "p3", "p4", "p5")
        for few in listed(*names, base_url="http://127.0.0.1:1/v1", provider=provider).endpoints.values()
        for endpoint in few
    ]
    busy = {endpoint.slug: Vitals(attempts=THIN) for endpoint in endpoints if endpoint.model.name == "m0"}
    chosen = probes.due(endpoints, Snapshot(1, 0.0, busy), {}, now=NOON)

    assert len(chosen) == MOST_AT_ONCE and not {e.slug for e in chosen} & busy.keys()
    assert max(sum(e.provider.slug == p for e in chosen) for p in ("p0", "p1")) == MOST_AT_A_PROVIDER
    waited = {e.slug: Health(at=NOON - 300 + n, row=1) for n, e in enumerate(endpoints)}
    oldest = [e.slug for e in endpoints if e.slug not in busy][:2]
    assert [e.slug for e in probes.due(endpoints, Snapshot(1, 0.0, busy), waited, now=NOON)][:2] == oldest


# ── Probing ──────────────────────────────────────────────────────────────────────────────────────


def test_a_probe_measures_and_its_cost_is_what_the_provider_bills(sandbox):
    offer(sandbox, "m")
    listing = listed("m", base_url=f"{sandbox.base_url}/sandbox-scene/v1")
    prober, merger = Prober(), Merger()

    (outcome,) = look(prober, listing, NOON, merger=merger)
    assert look(prober, listing, NOON + 5, merger=merger) == []  # not its turn

    bill = HTTP.get(f"{sandbox.base_url}/_sandbox/bill").json()
    assert len(bill["calls"]) == 1
    (day,) = ProbeDay.objects.all()
    assert (day.probes, day.failures) == (1, 0)
    assert day.nanos == outcome.nanos == int(Decimal(bill["total_usd"]) * 10**9) > 0
    vitals = figures.published().endpoints["sandbox-scene:a/m"]
    assert vitals.healthy is True and vitals.ttft_seconds.p50 > 0
    assert (vitals.attempts, vitals.uptime_5m, vitals.recent.attempts) == (0, 1.0, 0)


def test_an_endpoint_that_fails_is_down_after_three_probes_and_up_after_two(sandbox):
    listing = listed("m", base_url=f"{sandbox.base_url}/sandbox-scene/v1")
    prober, merger, said = Prober(), Merger(), []
    for turn in range(7):
        offer(sandbox, "m", **({"failure": 1.0} if turn < 4 else {}))
        look(prober, listing, NOON + turn * 8, merger=merger)
        said.append(healthy())

    assert said == [None, None, False, False, False, True, True]
    assert figures.published().endpoints["sandbox-scene:a/m"].uptime_5m == pytest.approx(2 / 6, abs=1e-4)
    assert ProbeDay.objects.get().failures == 4


def test_429_says_nothing(sandbox):
    offer(sandbox, "m", failure=1.0, status=429)
    listing = listed("m", base_url=f"{sandbox.base_url}/sandbox-scene/v1")
    prober, merger = Prober(), Merger()
    outcomes = [look(prober, listing, NOON + turn * 80, merger=merger) for turn in range(4)]

    assert [each.worked for found in outcomes for each in found] == [None] * 4
    assert figures.published().endpoints["sandbox-scene:a/m"] == Vitals()


def test_a_provider_that_nobody_answers_for_is_down(sandbox):
    listing = listed("m", base_url="http://127.0.0.1:1/v1")
    prober, merger = Prober(), Merger()
    for turn in range(3):
        look(prober, listing, NOON + turn * 8, merger=merger)

    assert healthy() is False


def test_traffic_of_ones_own_ends_the_probes(sandbox):
    offer(sandbox, "m")
    listing = listed("m", base_url=f"{sandbox.base_url}/sandbox-scene/v1")
    pipeline = kv.cache().pipeline()
    seen = {"sandbox-scene:a/m": Fold(worked=THIN)}
    figures.tell(pipeline, figures.stretch(NOON), "a-worker", seen)
    pipeline.execute()

    assert look(Prober(), listing, NOON, merger=Merger()) == []
    assert HTTP.get(f"{sandbox.base_url}/_sandbox/bill").json()["calls"] == []


def test_what_nobody_may_meet_is_not_probed_but_what_was_used_today_is(sandbox, settings):
    listing = listed("m", base_url=f"{sandbox.base_url}/sandbox-scene/v1", auto=False)
    offer(sandbox, "m")
    assert look(Prober(), listing, NOON, merger=Merger()) == []

    start = datetime.fromtimestamp(NOON - 3600, tz=UTC)
    Window.objects.create(endpoint="sandbox-scene:a/m", start=start, worked=1, fold=[])
    settings.SANDBOX_BASE_URL = sandbox.base_url
    assert look(Prober(), listing, NOON, merger=Merger()) == []  # simulated, and not for `auto`
    settings.SANDBOX_BASE_URL = ""
    assert len(look(Prober(), listing, NOON, merger=Merger())) == 1


class Models(BaseHTTPRequestHandler):
    """A provider that lists its models, and remembers what it was asked."""

    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(f"GET {self.path} {self.headers['Authorization']}")
        self.send_response(200)
        self.send_header("Content-Length", "11")
        self.end_headers()
        self.wfile.write(b'{"data":[]}')

    def do_POST(self) -> None:
        self.asked.append("POST")
        self.send_error(500)

    def log_message(self, *_) -> None: ...


@pytest.mark.parametrize("why", ["dear", "spent"])
def test_where_a_probe_would_be_dear_or_the_days_money_is_spent_the_list_of_models_is_enough(why):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Models)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    prices = {"input": "600", "output": "1200"} if why == "dear" else PRICES
    listing = listed("m", base_url=f"http://127.0.0.1:{server.server_port}/v1", prices=prices)
    if why == "spent":
        ProbeDay.objects.create(
            day=datetime.fromtimestamp(NOON, tz=UTC).date(), endpoint="sandbox-scene:a/m", nanos=10**9
        )
    Models.asked.clear()
    (outcome,) = look(Prober(), listing, NOON, merger=Merger())
    server.shutdown()
    server.server_close()

    assert Models.asked == ["GET /v1/models Bearer simulated"]
    assert outcome.worked is True and outcome.nanos == 0 and healthy() is True


def test_switched_off_nothing_is_asked(settings, monkeypatch):
    settings.PROBES = False
    monkeypatch.setattr(probes, "_prober", None)
    probes.probe_endpoints()


def test_when_all_look_down_all_are_tried():
    listing = listed("m", "n", base_url="http://127.0.0.1:1/v1")
    slugs = listing.endpoint_slugs()
    live = Live()
    live.learn(Snapshot(1, 0.0, {slug: Vitals(healthy=False, uptime_5m=0.0) for slug in slugs}))
    found = route.choose(Chat("auto", False, 10), listing=listing, live=live, allowed_models=(), now=0)

    assert {target.endpoint.slug for target in found.targets} == slugs
