"""A newcomer through a real browser: invited, signed up, guarded by an app and a passkey, in by both."""

from __future__ import annotations

import os
import re
import time

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from playwright.sync_api import Browser, Page, expect

from tests import browsing
from tests.product import Product

pytestmark = pytest.mark.xdist_group("product")

PASSWORD = "seven green bottles"


def code(secret: str, *, ahead: int = 0) -> str:
    """The app's code; each is good once, so a second one is that of the next half minute."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + ahead))


def link_sent_to(product: Product, email: str) -> str:
    for path in sorted(product.mail_dir.glob("*"), key=os.path.getmtime, reverse=True):
        found = re.search(r"(/invitations/\w+)$", path.read_text(), re.MULTILINE)
        if f"To: {email}" in path.read_text() and found:
            return found[1]
    raise AssertionError("no invitation was sent")


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="Your menu").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(lambda url: url.endswith("/"))


def give_a_device(page: Page) -> None:
    """A fingerprint reader that says yes, in place of one that a hand must touch."""
    devices = page.context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    about = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    devices.send("WebAuthn.addVirtualAuthenticator", {"options": about})


def invite(product: Product, browser: Browser, email: str) -> None:
    """As the demo's owner does it."""
    owner = browser.new_context(locale="en-US").new_page()
    owner.goto(f"{product.base_url}/accounts/login/")
    owner.get_by_label("E-mail").fill(product.email)
    owner.locator("input[name=password]").fill(product.password)
    owner.get_by_role("button", name="Sign in", exact=True).click()
    owner.wait_for_url(lambda url: "login" not in url)
    owner.goto(f"{product.base_url}/organization/members")
    owner.get_by_label("Invite by e-mail").fill(email)
    owner.get_by_role("button", name="Invite").click()
    expect(owner.locator(".alert-success")).to_contain_text("is invited")
    owner.context.close()


def test_a_newcomer_joins_is_guarded_and_signs_in_by_passkey_and_by_code(product, browser):
    email = f"nora-{time.time_ns() % 10**9}@example.invalid"
    invite(product, browser, email)

    # Passkeys belong to names, so she opens the link by one.
    page = browser.new_context(locale="en-US").new_page()
    complaints: list[str] = []
    page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
    home = product.base_url.replace("127.0.0.1", "localhost")
    page.goto(home + link_sent_to(product, email))
    page.get_by_role("link", name="Create an account and join").click()
    expect(page.get_by_label("E-mail")).to_have_value(email)
    page.locator("input[name=password1]").fill(PASSWORD)
    page.get_by_role("button", name="Sign up").click()
    page.locator("input[name=code]").fill(browsing.code_sent_to(product, email))
    page.get_by_role("button", name="Confirm", exact=True).click()
    expect(page.get_by_role("button", name="Your menu")).to_contain_text("Demo · member")

    # An authenticator app; then a passkey.
    page.goto(f"{home}/accounts/2fa/")
    page.get_by_role("link", name="Set up").click()
    page.locator("input[name=password]").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    secret = page.locator("#authenticator_secret").input_value()
    page.get_by_label("Code").fill(code(secret))
    page.get_by_role("button", name="Turn on").click()
    assert len(page.locator("#recovery_codes").input_value().split()) == 10
    page.get_by_role("link", name="I have saved them").click()
    give_a_device(page)
    page.get_by_role("link", name="Add: Passkeys").click()
    page.get_by_label("Name").fill("Nora's laptop")
    page.get_by_role("button", name="Add it").click()
    expect(page.locator(".list-group")).to_have_count(2)

    sign_out(page)
    page.goto(f"{home}/accounts/login/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_role("button", name="Your menu")).to_be_visible()
    page.goto(f"{home}/accounts/2fa/webauthn/")
    expect(page.get_by_role("row", name="Nora's laptop")).to_contain_text("signs in alone")

    sign_out(page)
    page.goto(f"{home}/accounts/login/")
    page.get_by_label("E-mail").fill(email)
    page.locator("input[name=password]").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_label("Code").fill(code(secret, ahead=1))
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("button", name="Your menu")).to_contain_text("Demo · member")
    assert complaints == [], "nothing is refused by the policy, nothing is missing"
    page.context.close()
