"""Now and then a call goes first to an endpoint that nobody has measured lately, where this is wanted."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random

import pytest

from routing.core import exploring
from routing.core.decision import EXPLORATION
from routing.core.listing import Listing
from tests.billing.test_admission import Customer, running
from tests.routing.gateway.test_strange_answers import House, answering, plain

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("explore", [True, False])
def test_a_call_that_is_drawn_to_explore_does_so_unless_that_is_off(tmp_path, settings, monkeypatch, explore):
    settings.EXPLORE = explore
    customer, draws = Customer(), itertools.cycle([0.5, exploring.SHARE / 2] if explore else [0.0])
    monkeypatch.setattr(random, "random", lambda: next(draws))

    async def work():
        async with answering(plain()) as port, running(tmp_path) as (process,):
            house = House(process, port, customer)
            (first,) = house.gateway.listing.endpoints["a/m"]
            second = dataclasses.replace(first, slug="p:a/m:twin", ttft_seconds=first.ttft_seconds * 1.1)
            house.gateway.listing = Listing(1, house.gateway.listing.models, {"a/m": (first, second)})
            call = await house.begin(route_preference="speed")
            await house.upstream.close()
            return call.route.decision

    found = asyncio.run(work())
    assert (found.strategy == EXPLORATION, found.chosen) == (explore, "p:a/m:twin" if explore else "p:a/m")
