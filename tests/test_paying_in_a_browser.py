"""Money through a real browser: bought, subscribed, spent at the new mark-up, bought by itself, given back.

Everything is real but Stripe, whose sandbox takes the cards, sends its signed webhooks, and shows its pages.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import openai
import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests import browsing
from tests.desk import Organization
from tests.routing.gateway.caller import Sandbox

pytestmark = pytest.mark.xdist_group("product")

GOOD, DECLINED = "4242 4242 4242 4242", "4000 0000 0000 0002"
SAY_HELLO = [{"role": "user", "content": "Say hello to the harbour"}]
DOLLAR = 10**9


@dataclass
class Payer:
    page: Page
    base_url: str
    organization: Organization
    client: openai.OpenAI

    def billing(self, query: str = "") -> str:
        self.page.goto(f"{self.base_url}/billing{query}")
        return self.page.locator("main").inner_text()

    def left(self) -> str:
        return self.page.locator("#balance .h1").inner_text()

    def buy(self, amount: str, number: str, *, keep: bool = False) -> None:
        """Up to the answer of the payment page."""
        self.billing()
        self.page.get_by_label("Other", exact=True).check(force=True)
        self.page.get_by_label("Other amount").fill(amount)
        if keep:
            self.page.get_by_label("Keep the card").check()
        self.page.get_by_role("button", name="Continue to payment").click()
        self.pay(number)

    def pay(self, number: str) -> None:
        """With a card typed now, not with one that is kept."""
        another = self.page.get_by_label(re.compile("Another card"))
        if another.count():
            another.check()
        self.page.get_by_label("Card number").fill(number)
        self.page.get_by_label("Expiry").fill("12/34")
        self.page.get_by_label("CVC").fill("123")
        self.page.locator("#pay").click()

    def call(self) -> object:
        return self.client.chat.completions.create(model="sandbox/pebble", messages=SAY_HELLO, max_tokens=40)


def await_that(holds: Callable[[], object], *, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def payer(product, browser) -> Iterator[Payer]:
    page = browser.new_context(locale="en-US").new_page()
    email = f"pat-{time.time_ns() % 10**9}@example.invalid"
    browsing.sign_up(page, product, email)
    api_key = browsing.make_key(page, product)
    with psycopg.connect(product.database_url) as connection:
        row = connection.execute(
            "SELECT id, public_id, slug FROM accounts_organization WHERE slug = %s",
            [email.partition("@")[0]],
        ).fetchone()
    assert row is not None
    with openai.OpenAI(base_url=product.api_base, api_key=api_key, max_retries=0) as client:
        yield Payer(page, product.base_url, Organization(*row), client)
    page.context.close()


def test_money_comes_is_spent_and_goes_back(product, payer, desk):
    page = payer.page

    # Twenty dollars by card, kept for later.
    payer.buy("20", GOOD, keep=True)
    expect(page.locator("#payment")).to_contain_text("Credit added")
    assert payer.left() == "$21.00"
    expect(page.locator("#history")).to_contain_text("+$20.00")
    assert "Visa ending in 4242" in payer.billing()

    # Pro, and a call at its five per cent.
    page.get_by_role("link", name="Start Pro").click()
    page.get_by_role("button", name="Continue to payment").click()
    page.locator("#pay").click()
    expect(page.locator("#payment")).to_contain_text("You are on Pro")
    answer = payer.call()
    (row,) = desk.await_generations(payer.organization, 1, posted=True)
    with Sandbox(product.sandbox_url) as sandbox:
        assert answer.usage.cost_nanos == sandbox.charge(row["upstream_id"], markup="0.05") > 0

    # Automatic top-up, due already; a call spends through it.
    payer.billing()
    page.get_by_label("Top up by itself").check()
    page.get_by_label("When below").fill("30")
    page.get_by_label("Buy, USD").fill("10")
    page.get_by_label("At most a month").fill("10")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".alert-success")).to_contain_text("Automatic top-up is on.")
    payer.call()
    await_that(lambda: "Automatic top-up\t+$10.00" in payer.billing())

    # The rest goes back to the card: all but what the calls and the parts of a cent took.
    for _ in range(2):
        payer.billing()
        page.locator("#refunds").get_by_role("link", name="Refund").first.click()
        page.get_by_role("button", name="Refund it").click()
        expect(page.locator(".alert-success")).to_contain_text("The refund is under way.")
    payer.billing()
    assert page.locator("#refunds").count() == 0
    wallet = desk.await_no_holds(payer.organization)
    assert 0 < wallet.funds < DOLLAR, "what was given is not paid back"

    assert product.manage("check_ledger", check=False).returncode == 0


def test_a_declined_card_is_said_there_and_nothing_is_charged_by_who_turns_back(payer):
    payer.buy("10", DECLINED)
    expect(payer.page.locator("body")).to_contain_text("Your card was declined")

    payer.page.get_by_role("link", name=re.compile("Back without paying")).click()

    expect(payer.page.locator("#payment")).to_contain_text("The payment was not finished")
    expect(payer.page.locator("#payment")).to_contain_text("Nothing was charged.")
    payer.page.get_by_role("link", name="Go back to the payment page").click()
    payer.pay(GOOD)
    expect(payer.page.locator("#payment")).to_contain_text("Credit added")


def test_after_a_dispute_the_page_and_the_api_say_suspended_and_what_to_do(product, payer):
    with psycopg.connect(product.database_url) as connection:
        (intent,) = connection.execute(
            "SELECT payment_intent_id FROM billing_topup WHERE organization_id = %s AND state = 'paid'"
            " ORDER BY created_at DESC LIMIT 1",
            [payer.organization.id],
        ).fetchone()

    httpx.post(f"{product.stripe_url}/_sandbox/disputes", json={"payment_intent": intent}).raise_for_status()

    await_that(lambda: "This organization is suspended" in payer.billing())
    notice = payer.page.locator("#notices")
    expect(notice).to_contain_text("ask your bank to withdraw the dispute")
    expect(payer.page.locator("header")).to_contain_text("Suspended")
    with pytest.raises(openai.APIStatusError) as refused:
        payer.call()
    assert (refused.value.status_code, refused.value.type) == (402, "account_suspended")
