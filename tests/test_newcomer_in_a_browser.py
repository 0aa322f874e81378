"""A newcomer in a real browser: from signing up to a first streamed answer, and on to the playground."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import pytest
from playwright.sync_api import ConsoleMessage, Page, expect

from billing.core.money import usd
from tests import browsing
from tests.desk import Organization

pytestmark = pytest.mark.xdist_group("product")

MOST_SECONDS = 60


@dataclass
class Newcomer:
    page: Page
    organization: Organization
    api_key: str
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
    text = page.locator("#new-key").input_value()
    yield Newcomer(page, Organization(*row), text, seconds, complaints)
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
    text = newcomer.api_key
    assert text in page.locator("#code-curl").inner_text(), "the examples have the key filled in"

    page.get_by_role("link", name="See the decision and the bill").click()
    expect(page.locator("#charge")).to_have_text(f"${usd(row['charge_nanos'])}")
    page.goto(f"{product.base_url}/start")
    assert text not in page.content(), "a key is shown once"
    page.goto(f"{product.base_url}/home")
    assert not page.url.endswith("/start"), "who has called goes on to the app"
    assert newcomer.complaints == []


# ── The playground ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def playground(newcomer, product) -> Iterator[Page]:
    page = newcomer.page
    page.goto(f"{product.base_url}/playground")
    page.evaluate("sessionStorage.clear()")
    page.goto(f"{product.base_url}/playground?model=auto")
    expect(page.locator("[data-column]")).to_have_count(1)
    yield page
    assert newcomer.complaints == []


def choose(page: Page, column: int, name: str) -> None:
    """Through the picker: search for it, take the first that is found."""
    chosen = page.locator("[data-column]").nth(column)
    chosen.locator(".dropdown-toggle").click()
    chosen.get_by_role("searchbox").fill(name)
    expect(chosen.locator(".dropdown-item")).to_have_count(1)
    chosen.get_by_role("searchbox").press("Enter")
    expect(chosen.locator("[data-name]")).to_have_text(name)


def ask(page: Page, text: str) -> None:
    page.locator("#prompt").fill(text)
    page.locator("#prompt").press("Control+Enter")


def charges(page: Page) -> list[str]:
    """The exact costs of the last message's answers, once all of them have ended."""
    last = page.locator("#thread > section").last
    expect(page.locator("#stop")).to_be_hidden()
    return last.locator("[data-facts] strong").all_inner_texts()


def test_each_preference_streams_beside_the_others_at_its_exact_cost(newcomer, playground, desk):
    page, before = playground, len(desk.generations(newcomer.organization))
    for number in (1, 2):
        page.get_by_role("button", name="Compare with another").click()
        expect(page.locator("[data-column]")).to_have_count(number + 1)
    page.locator("#prompt").press_sequentially("Say hello to the harbour")
    expect(page.locator("[data-prediction]").first).to_contain_text(
        re.compile(r"about \$0\.\d+ and .* at most")
    )
    page.locator("#prompt").press("Control+Enter")

    shown = charges(page)

    rows = desk.await_generations(newcomer.organization, before + 3)[before:]
    assert {row["preference"] for row in rows} == {"balanced", "speed", "cost"}
    assert {row["user_agent"] for row in rows} != {""}
    assert sorted(shown) == sorted(f"${usd(row['charge_nanos'])}" for row in rows)
    answers = page.locator("#thread article")
    for row in rows:
        expect(answers.filter(has_text=row["endpoint"]).first).to_contain_text(f"${usd(row['charge_nanos'])}")

    # The conversation goes on, is kept in this tab, and can be dropped.
    ask(page, "And goodbye?")
    charges(page)
    page.reload()
    expect(page.locator("#thread > section")).to_have_count(2)
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#thread > section")).to_have_count(0)


def test_two_models_side_by_side_and_the_code_of_a_call_runs(newcomer, playground, desk, product):
    page, before = playground, len(desk.generations(newcomer.organization))
    choose(page, 0, "sandbox/pebble")
    page.get_by_role("button", name="Compare with another").click()
    choose(page, 1, "sandbox/swallow")
    page.get_by_label("Most tokens").fill("7")
    page.get_by_label("System prompt").fill("It's <b>short</b>.")
    ask(page, "Say 'hello' to the <i>harbour</i>")

    assert len(charges(page)) == 2
    rows = desk.await_generations(newcomer.organization, before + 2)[before:]
    assert {row["model"] for row in rows} == {"sandbox/pebble", "sandbox/swallow"}
    assert page.locator("#thread i").count() == 0, "what is typed is text"

    page.locator("[data-act=code]").first.click()
    curl = page.locator("#sent-curl").inner_text()
    page.keyboard.press("Escape")
    environment = {"FAIRLEAD_API_KEY": newcomer.api_key, "PATH": os.environ["PATH"]}
    ran = subprocess.run(
        ["bash", "-c", curl.replace("curl -N", "curl -sN")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ran.stdout.endswith("data: [DONE]\n\n")
    (again,) = desk.await_generations(newcomer.organization, before + 3)[before + 2 :]
    (first,) = [row for row in rows if row["model"] == "sandbox/pebble"]
    assert (again["model"], again["charge_nanos"]) == (first["model"], first["charge_nanos"])


def test_a_stream_is_stopped_and_an_error_is_told_in_words(newcomer, playground, desk):
    page, before = playground, len(desk.generations(newcomer.organization))
    choose(page, 0, "sandbox/fault-hang-after-3")
    ask(page, "Begin, and never end")
    expect(page.locator("#thread [data-text]").last).to_have_text(re.compile(r"\w+"))
    page.keyboard.press("Escape")

    (stopped,) = charges(page)
    (row,) = desk.await_generations(newcomer.organization, before + 1)[before:]
    assert (row["status"], f"${usd(row['charge_nanos'])}") == ("aborted", stopped)

    choose(page, 0, "sandbox/fault-error-event")
    ask(page, "Break")
    expect(page.locator("[role=alert]:visible")).to_contain_text("provider")
    assert charges(page) == ["$0.00"], "what a provider breaks is free"
