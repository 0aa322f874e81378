"""A newcomer in a real browser: from signing up to a streamed answer and its cost, on one page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import pytest
from playwright.sync_api import ConsoleMessage, Page, expect

from billing.money import usd
from tests import browsing
from tests.desk import Organization

pytestmark = pytest.mark.xdist_group("product")

MOST_SECONDS = 60


@dataclass
class Newcomer:
    page: Page
    organization: Organization
    seconds: float
    """From the empty sign-up form to the whole of the first answer."""
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def newcomer(product, browser) -> Iterator[Newcomer]:
    page = browser.new_context(locale="en-US").new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.extend(_complaint(said)))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    email = f"nell-{time.time_ns() % 10**9}@example.invalid"
    began = time.monotonic()
    browsing.sign_up(page, product, email)
    page.get_by_role("button", name="Make a key").click()
    page.get_by_role("button", name="Run it here").click()
    expect(page.locator("#first-answer [data-facts]")).to_contain_text("$")
    seconds = time.monotonic() - began
    with psycopg.connect(product.database_url) as connection:
        row = connection.execute(
            "SELECT id, public_id, slug FROM accounts_organization WHERE slug = %s",
            [email.partition("@")[0]],
        ).fetchone()
    assert row is not None
    yield Newcomer(page, Organization(*row), seconds, complaints)
    page.context.close()


def _complaint(said: ConsoleMessage) -> list[str]:
    return [said.text] if said.type in ("error", "warning") else []


def test_a_newcomer_has_a_streamed_answer_within_a_minute_and_sees_what_it_cost(newcomer, product, desk):
    page = newcomer.page

    print(f"from sign-up to the end of the first answer: {newcomer.seconds:.1f} s")
    assert newcomer.seconds < MOST_SECONDS
    (row,) = desk.await_generations(newcomer.organization, 1)
    expect(page.locator("#first-cost")).to_have_text(f"${usd(row['charge_nanos'])}")
    expect(page.locator("#first-seen")).to_contain_text(row["endpoint"])
    assert len(page.locator("#first-answer [data-text]").inner_text()) > 20
    text = page.locator("#new-key").input_value()
    assert text in page.locator("#code-curl").inner_text(), "the examples have the key filled in"

    page.get_by_role("link", name="See the decision and the bill").click()
    expect(page.locator("#charge")).to_have_text(f"${usd(row['charge_nanos'])}")
    page.goto(f"{product.base_url}/start")
    assert text not in page.content(), "a key is shown once"
    page.goto(f"{product.base_url}/home")
    assert not page.url.endswith("/start"), "who has called goes on to the app"
    assert newcomer.complaints == []
