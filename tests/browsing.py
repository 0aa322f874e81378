"""What a person does in a real browser before a test of theirs begins: sign up, make a key."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.product import Product

_CHROMIUM = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    # Each window would start two processes for what drops out of its address bar, which nobody sees: most of
    # what a window costs. The last list counts, so what Playwright turns off stands here too.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,AimEnabled,DestroyProfileOnBrowserClose,"
    "HttpsUpgrades,HttpsFirstBalancedModeAutoEnable,LensOverlay,MediaRouter,NetworkTimeServiceQuerying,"
    "OptimizationHints,PaintHolding,PreconnectToSearch,ThirdPartyStoragePartitioning",
]


_running: list[Browser] = []


@contextmanager
def chromium() -> Iterator[Browser]:
    """A Chromium; whoever asks while one runs in this process has the same."""
    if _running:
        yield _running[0]
        return
    expect.set_options(timeout=30_000)  # a busy machine is no failure
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=_CHROMIUM)
        _running.append(started)
        yield started
        _running.clear()
        started.close()


def code_sent_to(product: Product, email: str) -> str:
    """The code in the newest message to this person, from the folder in which the product drops mail."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for path in sorted(product.mail_dir.glob("*"), key=os.path.getmtime, reverse=True):
            text = path.read_text()
            found = re.search(r"^    ([A-Z0-9-]{6,9})$", text, re.MULTILINE)
            if f"To: {email}" in text and found:
                return found[1]
        time.sleep(0.05)
    raise AssertionError("no code was sent")


def sign_up(page: Page, product: Product, email: str) -> None:
    page.goto(f"{product.base_url}/accounts/signup/")
    page.get_by_label("E-mail").fill(email)
    page.locator("input[name=password1]").fill("seven green bottles")
    page.get_by_role("button", name="Sign up").click()
    page.locator("input[name=code]").fill(code_sent_to(product, email))
    page.get_by_role("button", name="Confirm", exact=True).click()
    page.wait_for_url("**/start")


def make_key(page: Page, product: Product) -> str:
    """Through the form; the text as the page shows it, this once."""
    page.goto(f"{product.base_url}/keys")
    page.get_by_role("link", name="Make your first key").click()
    page.locator("input[name=name]").fill("first")
    page.locator("main form button[type=submit]").last.click()
    text = page.locator("#new-key").input_value()
    assert text.startswith("fl_live_")
    page.goto(f"{product.base_url}/keys")
    assert text not in page.content() and text[-4:] in page.content()
    return text
