"""From an empty browser to one real request, and one cost that every book states alike.

A person signs up in a real browser on a running product, makes a key, and calls `model: "auto"` with the
official SDK; then the cost stands in the stream, the receipt, the row, the ledger, on the pages, and equals
the simulated provider's own bill × the mark-up.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import openai
import psycopg
import pytest
from playwright.sync_api import Page

from billing.core.money import usd
from tests import browsing
from tests.desk import Organization
from tests.routing.gateway.caller import Sandbox

pytestmark = pytest.mark.xdist_group("product")

SAY_HELLO = [{"role": "user", "content": "Say hello to the harbour"}]


@dataclass
class Customer:
    page: Page
    organization: Organization
    api_key: str


@pytest.fixture(scope="module")
def customer(product, browser) -> Iterator[Customer]:
    page = browser.new_context(locale="en-US").new_page()
    email = f"ada-{time.time_ns() % 10**9}@example.invalid"
    browsing.sign_up(page, product, email)
    api_key = browsing.make_key(page, product)
    with psycopg.connect(product.database_url) as connection:
        row = connection.execute(
            "SELECT id, public_id, slug FROM accounts_organization WHERE slug = %s", [email.partition("@")[0]]
        ).fetchone()
    assert row is not None
    yield Customer(page, Organization(*row), api_key)
    page.context.close()


@pytest.fixture(scope="module")
def client(product, customer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=product.api_base, api_key=customer.api_key, max_retries=0) as made:
        yield made


def test_the_first_request_and_its_cost_in_every_book(product, customer, client, desk):
    stream = client.chat.completions.create(
        model="auto",
        messages=SAY_HELLO,
        stream=True,
        max_tokens=60,
        extra_body={"route_preference": "balanced"},
    )
    chunks = list(stream)

    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(said) > 20
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    cost = chunks[-1].usage.cost_nanos
    generation_id = chunks[0].id

    # The receipt, before and after PostgreSQL has the row.
    receipt = client.get(f"/generation?id={generation_id}", cast_to=dict)["data"]
    assert receipt["cost_nanos"] == cost
    assert (receipt["model_asked"], receipt["status"]) == ("auto", "completed")

    # The row, the ledger's entry that Celery posts, the wallet.
    (row,) = desk.await_generations(customer.organization, 1, posted=True)
    credit, posting = desk.postings(customer.organization)
    assert row["id"] == generation_id and row["charge_nanos"] == cost
    assert posting["id"] == row["posting_id"]
    assert abs(posting["entries"]["wallet"]) == cost
    assert sum(posting["entries"].values()) == sum(credit["entries"].values()) == 0
    wallet = desk.await_no_holds(customer.organization)
    assert wallet.balance == 1_000_000_000 - cost == wallet.credit - wallet.spent

    # The provider's own bill × (1 + mark-up), rounded once.
    with Sandbox(product.sandbox_url) as sandbox:
        assert cost == sandbox.charge(row["upstream_id"], markup="0.10") > 0
    assert client.get(f"/generation?id={generation_id}", cast_to=dict)["data"]["cost_nanos"] == cost

    # What the person sees.
    page = customer.page
    page.goto(f"{product.base_url}/activity")
    table = page.locator("main").inner_text()
    assert f"${usd(cost)}" in table and row["endpoint"] in table
    assert row["decision"]["reason"] in table
    page.goto(f"{product.base_url}/activity/{generation_id}")
    assert page.locator("#charge").inner_text() == f"${usd(cost)}"
    assert "In the ledger" in page.locator("#receipt").inner_text()
    assert row["endpoint"] in page.get_by_role("list", name="From what was asked").inner_text()
    drawn = page.get_by_role("img", name="Predicted cost against predicted time of each candidate")
    assert drawn.is_visible() and drawn.locator(".fl-mark-served").count() == 1

    assert product.manage("check_ledger", check=False).returncode == 0


def test_synchronous(client):
    answer = client.chat.completions.create(model="auto", messages=SAY_HELLO, max_tokens=8)

    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens == 8 and answer.usage.cost_nanos > 0
    assert answer.id.startswith("gen-") and answer.provider


def test_asynchronous_plain_and_streamed(product, customer):
    async def work():
        async with openai.AsyncOpenAI(base_url=product.api_base, api_key=customer.api_key) as made:
            plain, stream = await asyncio.gather(
                made.chat.completions.create(model="sandbox/pebble", messages=SAY_HELLO, max_tokens=4),
                made.chat.completions.create(
                    model="sandbox/pebble", messages=SAY_HELLO, max_tokens=4, stream=True
                ),
            )
            return plain, [chunk async for chunk in stream]

    with ThreadPoolExecutor(1) as thread:  # Playwright has a loop of its own in this one
        plain, chunks = thread.submit(asyncio.run, work()).result()

    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == plain.choices[0].message.content
    assert chunks[-1].usage.cost_nanos == plain.usage.cost_nanos


def test_the_sdks_own_stream_helper(client):
    with client.chat.completions.stream(model="sandbox/pebble", messages=SAY_HELLO) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()

    assert "content.done" in kinds
    assert final.usage.cost_nanos > 0 and final.choices[0].finish_reason == "stop"


def test_raw_responses_and_their_headers(client):
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=SAY_HELLO, max_tokens=4)
    parsed = raw.parse()

    assert raw.headers["x-generation-id"] == parsed.id
    assert raw.headers["x-fairlead-endpoint"].endswith(parsed.model)
    assert raw.headers["x-fairlead-reason"].startswith("best balance of")
    assert re.fullmatch(r"0\.\d+", raw.headers["x-fairlead-predicted-cost"])
    assert re.search(r'"cost":0\.\d+[,}]', raw.text)


def test_raw_streams(client):
    made = client.chat.completions.with_streaming_response.create(
        model="auto", messages=SAY_HELLO, max_tokens=4, stream=True
    )
    with made as response:
        lines = [line for line in response.iter_lines() if line]

    assert lines[-1] == "data: [DONE]"
    assert json.loads(lines[-2].removeprefix("data: "))["usage"]["cost_nanos"] > 0


def test_the_three_preferences_choose_three_endpoints_and_say_why(client):
    chosen, reasons = {}, {}
    for preference in ("speed", "cost", "balanced"):
        raw = client.chat.completions.with_raw_response.create(
            model="auto", messages=SAY_HELLO, max_tokens=2, extra_body={"route_preference": preference}
        )
        chosen[preference] = raw.headers["x-fairlead-endpoint"]
        reasons[preference] = raw.headers["x-fairlead-reason"]

    assert len(set(chosen.values())) == 3, chosen
    assert reasons["cost"].startswith("cheapest of")
    assert reasons["speed"].startswith("fastest of")
    assert reasons["balanced"].startswith("best balance of")


def test_errors_are_the_sdks_own(product, client):
    with pytest.raises(openai.AuthenticationError) as wrong:
        client.with_options(api_key="fl_live_wrong").chat.completions.create(model="auto", messages=SAY_HELLO)
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="sandbox/swalow", messages=SAY_HELLO)
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="auto", messages=SAY_HELLO, max_tokens=-1)
    with pytest.raises(openai.APIStatusError) as poor:
        client.chat.completions.create(model="sandbox/oracle", messages=SAY_HELLO, max_tokens=32_000, n=16)

    assert wrong.value.type == "malformed_key"
    assert "sandbox/swallow" in unknown.value.message
    assert (bad.value.param, bad.value.type) == ("max_tokens", "invalid_request")
    assert poor.value.status_code == 402
    assert poor.value.body["metadata"]["affordable_tokens"] > 0


def test_an_error_in_mid_stream_raises_in_the_sdk(client):
    stream = client.chat.completions.create(
        model="sandbox/fault-error-event", messages=SAY_HELLO, stream=True
    )
    said = ""
    with pytest.raises(openai.APIError) as broken:
        for chunk in stream:
            said += chunk.choices[0].delta.content or ""

    assert said and "charged" in broken.value.message


@pytest.mark.parametrize("prefix", ["/api/v1", "/v1"])
def test_models_key_and_credit_by_both_prefixes(product, client, prefix):
    at = client.with_options(base_url=product.base_url + prefix)

    assert "sandbox/harbor" in {model.id for model in at.models.list()}
    assert at.models.retrieve("sandbox/harbor").id == "sandbox/harbor"
    assert at.get("/key", cast_to=dict)["data"]["name"] == "first"
    credit = at.get("/credits", cast_to=dict)["data"]
    assert credit["total_credits_nanos"] == 1_000_000_000
    assert 0 < credit["total_usage_nanos"] < 1_000_000_000
