"""A worker's listing holds prices as of now, and is read again when a window begins or ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from aggregator.lib import clock
from routing import snapshot, sync
from routing.core import pricelist, shelf
from routing.core.live import Live
from routing.process import Process
from tests.routing.test_catalog_files import GOOD

NOON = datetime(2099, 11, 23, 12, tzinfo=UTC)
"""After the price rows, which begin when they are made."""
HOURS = '{ input = "1", output = "2", windows = [{ from = "16:30", until = "00:30", input = "0.5" }] }'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACME_API_KEY", "simulated")
    (tmp_path / "acme.toml").write_text(GOOD.replace('{ input = "1", output = "2" }', HOURS))
    return tmp_path


def set_clock(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    monkeypatch.setattr(clock, "now", lambda: moment)


@pytest.mark.django_db(transaction=True)
def test_every_worker_changes_the_price_when_the_window_begins_and_ends(folder: Path, monkeypatch):
    sync.sync(folder)
    set_clock(monkeypatch, NOON)
    monkeypatch.setattr("routing.process._REFRESH_SECONDS", 0.01)
    gateway = SimpleNamespace(listing=snapshot.load())
    exchange = SimpleNamespace(live=Live())
    process = Process(gateway, admission=None, settlement=None, upstream=None, exchange=exchange)
    chosen = gateway.listing.endpoints["acme/one"][0]
    seen = []

    def price():
        return gateway.listing.endpoints["acme/one"][0].price

    async def run():
        process.keep(process._refresh())
        for moment in (NOON.replace(hour=16, minute=30), NOON + timedelta(days=1)):
            before = gateway.listing
            set_clock(monkeypatch, moment)
            async with asyncio.timeout(20):
                while gateway.listing is before:
                    await asyncio.sleep(0.01)
            seen.append((price().window, price().rates.input, gateway.listing.until))
        process.ready = False
        for task in process._tasks:
            task.cancel()
        await asyncio.gather(*process._tasks, return_exceptions=True)

    asyncio.run(run())

    midnight = NOON.replace(hour=0) + timedelta(days=1, minutes=30)
    assert seen == [(1, 500, midnight), (0, 1000, NOON + timedelta(days=1, hours=4, minutes=30))]
    assert (chosen.price.window, chosen.price.id) == (0, price().id)  # what a call chose, it keeps


@pytest.mark.django_db(transaction=True)
def test_the_list_of_models_says_when_another_price_holds(folder: Path, monkeypatch):
    sync.sync(folder)
    set_clock(monkeypatch, NOON.replace(hour=20))
    (model,) = shelf.models(replace(snapshot.load(), derived={}))["data"]

    assert model["pricing"]["prompt"] == "0.000001"
    (override,) = model["pricing"]["overrides"]
    assert (override["utc_start"], override["utc_end"], override["prompt"]) == (16.5, 0.5, "0.0000005")


@pytest.mark.parametrize(
    "name", ["deepseek-chat", "deepseek-reasoner", "deepseek-v4-flash", "deepseek-v4-pro"]
)
def test_prices_by_the_hour_of_the_list_are_what_the_list_says_at_every_minute(name):
    from genai_prices import data

    from billing.core.pricing import parse_price

    (listed,) = [
        model
        for maker in data.providers
        if maker.id == "deepseek"
        for model in maker.models
        if model.id == name
    ]
    day = datetime(2026, 11, 23, tzinfo=UTC)
    price = parse_price(1, pricelist.stated(f"deepseek/{name}", now=day + timedelta(hours=2)))
    assert price.windows
    for minute in range(24 * 60):
        moment = day + timedelta(minutes=minute)
        says, rates = listed.get_prices(moment), price.at(moment).rates
        assert (rates.input, rates.output, rates.cache_read) == tuple(
            1000 * amount for amount in (says.input_mtok, says.output_mtok, says.cache_read_mtok)
        ), moment
