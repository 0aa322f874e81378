"""The operators' own pages: who may see them, and that their sums are those of the rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.test import Client

from accounts.models import User
from aggregator.lib import clock, kv
from billing import alerts, earnings, freezing, inquiries
from billing.models import UsageSpan
from routing import figures, roster
from routing.core.health import Health
from routing.core.vitals import Recent, Snapshot, Vitals
from tests.billing import books
from tests.routing.selecting import endpoint, listing_of

pytestmark = pytest.mark.django_db
PAGES = ("/admin/", "/admin/health", "/admin/margin")


def staff(*permissions: str, superuser: bool = False) -> Client:
    make = User.objects.create_superuser if superuser else User.objects.create_user
    user = make("op@example.com", "a long password 42", **({} if superuser else {"is_staff": True}))
    for name in permissions:
        app, _, codename = name.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    client = Client()
    client.force_login(user)
    return client


def used(organization, endpoint: str, hour: datetime, *, base: int, charge: int, loss: int = 0) -> None:
    key, start = books.make_key(organization), hour.replace(minute=0, second=0, microsecond=0)
    for hours, at in ((1, start), (24, start.replace(hour=0))):
        UsageSpan.objects.of(organization).create(
            organization=organization,
            key=key,
            model="a/m",
            endpoint=endpoint,
            hours=hours,
            start=at,
            requests=3,
            base_nanos=base,
            charge_nanos=charge,
            loss_nanos=loss,
            **dict.fromkeys(("failed", "aborted", "prompt", "cached", "completion", "saved_nanos"), 0),
        )


def test_nobody_but_staff_with_the_permission_opens_them(client):
    assert [client.get(page).status_code for page in PAGES] == [302] * 3
    some = staff("routing.view_endpoint", "accounts.view_organization")

    assert [some.get(page).status_code for page in PAGES] == [200, 200, 403]
    page = some.get("/admin/").content.decode()
    assert "Provider health" in page and "/admin/accounts/organization/" in page
    assert "/admin/margin" not in page and "/admin/billing/wallet/" not in page and "Open alerts" not in page


def test_the_first_page_counts_what_waits():
    organization = books.make_organization()
    freezing.freeze(organization.pk, "operator", by="test")
    alerts.raise_alert("sort", "it", "The sky is falling")
    inquiries.ask(name="A", email="a@example.com", text="?")

    page = staff(superuser=True).get("/admin/")

    assert page.status_code == 200 and "The sky is falling" in page.content.decode()
    values = {card["label"]: card["value"] for card in page.context["cards"]}
    assert values["Open alerts"] == values["Frozen organizations"] == values["Inquiries not mailed"] == "1"
    root = Client()
    root.force_login(User.objects.get(email="op@example.com"))
    for card in page.context["cards"]:
        assert root.get(card["href"]).status_code == 200, card["href"]


def test_endpoints_stand_the_worst_first_with_what_is_known_of_them():
    listing = listing_of(*(endpoint(slug) for slug in ("well", "down", "slow", "new")))
    at = clock.now().timestamp()
    seen = Snapshot(
        1,
        at,
        {
            "well:a/m0": Vitals(attempts=9, uptime_5m=1.0, uptime_1d=1.0),
            "down:a/m0": Vitals(attempts=9, uptime_5m=0.1, recent=Recent(attempts=9, failures=9)),
            "slow:a/m0": Vitals(attempts=9, uptime_5m=0.9),
        },
    )

    found = roster.of(listing, seen, {"new:a/m0": Health(True, 4, at, at)})

    assert [entry.slug.partition(":")[0] for entry in found] == ["down", "slow", "well", "new"]
    assert (found[-1].row, found[-1].probed_at) == (4, datetime.fromtimestamp(at, tz=UTC))


def test_the_page_of_health_lists_every_endpoint(settings):
    settings.SANDBOX_BASE_URL = "http://127.0.0.1:1"
    call_command("sync_catalog")
    kv.cache().hset(
        figures.HEALTH, "sandbox-steady:sandbox/harbor", figures.encode(Health(False, -3, 1, 1e9))
    )

    page = staff(superuser=True).get("/admin/health").content.decode()

    assert "sandbox-steady:sandbox/harbor" in page and "-3 in a row" in page


def test_the_margin_is_what_was_charged_less_what_it_cost_by_plan_and_by_provider():
    first, second = books.make_organization(), books.make_organization("other")
    now = clock.now()
    used(first, "p:a/m", now, base=100, charge=110, loss=3)
    used(second, "q:a/m", now, base=1000, charge=1100)
    used(second, "q:a/m", now - timedelta(days=62), base=5, charge=9)
    month = now.date().replace(day=1)

    providers = {each.name: each.margin_nanos for each in earnings.by_provider(month)}
    (plan,) = earnings.by_plan(month)

    assert providers == {"q": 100, "p": 7} and list(providers) == ["q", "p"]
    assert (plan.name, plan.requests, plan.margin_nanos) == ("free", 6, 107)
    today = earnings.today()
    assert (today.charged_nanos, today.base_nanos, today.loss_nanos) == (1210, 1100, 3)
    root = staff(superuser=True)
    for query in ("", f"?month={month:%Y-%m}", "?month=nonsense"):
        assert "$0.0000001" in root.get(f"/admin/margin{query}").content.decode()
