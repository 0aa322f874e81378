"""`stripe_setup` makes at Stripe what our plans say, tells it before, and changes nothing when it stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from billing import plans
from billing.core.money import parse_usd
from billing.models import Plan
from billing.payments import inbox, stripe_setup
from billing.stripe_client import catalog
from tests.billing import stripe_stand
from tests.billing.stripe_stand import Stand

pytestmark = pytest.mark.django_db

URL = "https://api.example.com/hooks/stripe"


@pytest.fixture
def stand(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    stand = stripe_stand.running()
    settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE = stand.key, stand.url
    settings.PUBLIC_URL = "https://api.example.com"
    stand.reset()
    return stand


def told(capsys: pytest.CaptureFixture[str], **options: Any) -> list[str]:
    capsys.readouterr()
    call_command("stripe_setup", **options)
    return capsys.readouterr().out.splitlines()


def objects(stand: Stand) -> dict[str, list[dict[str, Any]]]:
    kinds = ("product", "price", "webhook_endpoint", "billing_portal.configuration")
    found = stand.look("objects")
    return {kind: found[kind] for kind in kinds if kind in found}


def change_price(slug: str, usd: str) -> None:
    row = plans.current(slug)
    Plan.objects.create(slug=slug, name=row.name, markup=row.markup, monthly_nanos=parse_usd(usd))


def test_a_new_account_gets_what_our_plans_say_and_a_second_run_changes_nothing(
    stand: Stand, capsys: pytest.CaptureFixture[str]
):
    done = [line for line in told(capsys) if line.startswith("done: ")]
    made = objects(stand)

    assert len(done) == 5  # a product and a price each, the portal
    prices = catalog.prices(stripe_setup.SOLD)
    assert {plan: price.cents for plan, price in prices.items()} == {"pro": 999, "business": 9900}
    assert set(stripe_setup.SOLD) == {price["metadata"]["plan"] for price in made["price"]}
    assert {price["tax_behavior"] for price in made["price"]} == {"exclusive"}
    assert {product["name"] for product in made["product"]} == {"Fairlead Pro", "Fairlead Business"}

    assert [line for line in told(capsys) if line.startswith("done: ")] == []
    assert objects(stand) == made


def test_a_dry_run_tells_all_and_does_nothing(stand: Stand, capsys: pytest.CaptureFixture[str]):
    said = told(capsys, dry_run=True)

    assert sum(line.startswith("would ") for line in said) == 5
    assert objects(stand) == {}


def test_a_changed_price_is_a_new_one_that_takes_the_lookup_key_over_there_and_back(
    stand: Stand, capsys: pytest.CaptureFixture[str]
):
    """Back within the day in which Stripe remembers keys: the write is another, though the amount is not."""
    told(capsys)
    first = catalog.price("pro")
    for usd, cents in (("12.50", 1250), ("9.99", 999)):
        change_price("pro", usd)
        (done,) = [line for line in told(capsys) if line.startswith("done: ")]
        assert f"at ${usd} a month in place of price_" in done
        price = catalog.price("pro")
        assert price is not None
        assert price.cents == cents

    assert first is not None
    assert price.id != first.id
    assert len([each for each in objects(stand)["price"] if each["product"] == first.product]) == 3
    assert len([each for each in objects(stand)["price"] if each["lookup_key"] == "plan_pro_monthly"]) == 1


def test_a_product_that_was_renamed_or_archived_by_hand_is_put_right(
    stand: Stand, capsys: pytest.CaptureFixture[str]
):
    told(capsys)
    before = objects(stand)["product"]
    products = stand.client().v1.products
    for changed in ({"name": "Cheap"}, {"active": False}):
        products.update(before[0]["id"], changed)
        assert len([line for line in told(capsys) if line.startswith("done: ")]) == 1

    assert [(each["name"], each["active"]) for each in objects(stand)["product"]] == [
        (each["name"], True) for each in before
    ]


def test_the_simulated_stripe_needs_no_webhook_endpoint(stand: Stand, capsys: pytest.CaptureFixture[str]):
    told(capsys)

    assert "webhook_endpoint" not in objects(stand)


@pytest.mark.parametrize("usd", ["9.999", "0"])
def test_a_price_that_stripe_cannot_charge_is_refused(
    stand: Stand, capsys: pytest.CaptureFixture[str], usd: str
):
    change_price("business", usd)

    with pytest.raises(CommandError, match="is not a price in whole cents"):
        told(capsys)


def test_without_a_key_or_with_a_wrong_one_it_is_said(
    stand: Stand, settings: Any, capsys: pytest.CaptureFixture[str]
):
    settings.STRIPE_SECRET_KEY = "sk_test_wrong"
    with pytest.raises(CommandError):
        told(capsys)
    settings.STRIPE_SECRET_KEY = ""
    with pytest.raises(CommandError, match="STRIPE_SECRET_KEY is not set"):
        told(capsys)


# ── The webhook endpoint, which the real Stripe needs ────────────────────────────────────────────


def test_the_webhook_endpoint_is_made_once_and_its_secret_told_then(stand: Stand):
    dry = list(stripe_setup.run(webhook=True, dry=True))
    assert dry[-1] == stripe_setup.Step(True, f"make a webhook endpoint for {URL}")
    assert catalog.endpoints() == []

    *_, made = stripe_setup.run(webhook=True)
    assert made.secret.startswith("whsec_")
    *_, again = stripe_setup.run(webhook=True)
    assert (again.changes, again.secret) == (False, "")
    (there,) = catalog.endpoints()
    assert (there.url, there.types, there.enabled, there.secret) == (URL, frozenset(inbox.TYPES), True, "")


@pytest.mark.parametrize("changed", [{"disabled": True}, {"enabled_events": ["charge.refunded"]}])
def test_an_endpoint_that_is_off_or_asks_for_other_types_is_put_right(stand: Stand, changed: Any):
    list(stripe_setup.run(webhook=True))
    (there,) = catalog.endpoints()
    stand.client().v1.webhook_endpoints.update(there.id, changed)

    *_, mended = stripe_setup.run(webhook=True)

    assert (mended.changes, mended.secret) == (True, "")
    assert catalog.endpoints() == [there]
