"""A month of real calls is closed; a browser saves its document as PDF, and every place says one total."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from decimal import Decimal

import httpx
import pytest
from pypdf import PdfReader

from tests.product import PROJECT, Product

pytestmark = pytest.mark.xdist_group("product")


def test_the_pdf_that_a_browser_saves_the_page_and_the_api_say_one_total(product: Product, browser):
    made = _closed_month(product)
    context = browser.new_context(locale="en-US", accept_downloads=True)
    context.add_cookies(
        [{"name": "session", "value": made["session"], "url": product.base_url, "httpOnly": True}]
    )
    page = context.new_page()
    page.goto(f"{product.base_url}/billing")
    page.get_by_role("link", name="Invoices and statements").first.click()
    page.get_by_role("link", name=made["number"], exact=True).click()
    on_page = page.locator("#total").inner_text()
    with page.expect_download(timeout=90_000) as saving:
        page.get_by_role("link", name="PDF").click()
    saved = saving.value
    printed = saved.path().read_bytes()
    context.close()

    assert saved.suggested_filename == f"{made['number']}.pdf"
    text = " ".join(each.extract_text() for each in PdfReader(io.BytesIO(printed)).pages)
    assert made["number"] in text and on_page in text
    with httpx.Client(
        base_url=product.api_base,
        headers={"Authorization": f"Bearer {made['key']}"},
        trust_env=False,
        timeout=90,
    ) as api:
        said = api.get(f"/invoices/{made['id']}").json()["data"]
        again = api.get(f"/invoices/{made['id']}.pdf").content
    assert again == printed
    charged = Decimal(made["charged_nanos"]).scaleb(-9)
    assert Decimal(said["total"]) == Decimal(said["document"]["usage_total"]) == charged > 0
    assert Decimal(on_page.removeprefix("$").replace(",", "")) == charged


def _closed_month(product: Product) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.test_an_invoice_in_a_browser"],
        cwd=PROJECT,
        env={**product.environment, "DJANGO_SETTINGS_MODULE": "aggregator.settings"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def _make() -> dict[str, str]:
    """In a process with the product's settings: calls of last month, booked and closed."""
    import time

    from accounts import keys, signup
    from accounts.core import roles
    from billing import wallets
    from tests import house

    slug = f"invoiced-{time.time_ns() % 10**9}"
    owner, organization = signup.register(f"owner@{slug}.invalid", house.PASSWORD, slug=slug, name="Quay")
    wallets.open_wallet(organization.pk)
    wallets.grant(slug, 20 * 10**9)
    key, _ = keys.create(organization, name="Nightly job", by=owner)
    _, text = keys.create(organization, name="Books", by=owner, scope=roles.MANAGEMENT)
    issued, calls = house.statement_of(organization, key, slug, calls=3)
    return {
        "session": house._session(owner),
        "key": text,
        "id": str(issued.pk),
        "number": issued.number,
        "charged_nanos": str(sum(call.charge_nanos for call in calls)),
    }


if __name__ == "__main__":
    import django

    django.setup()
    print(json.dumps(_make()))
