"""The page of one model: endpoints side by side, prices as the reader pays them, and how to call it."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from aggregator.lib import clock
from billing import prices
from routing.core import samples
from routing.core.folds import Fold
from routing.models import Window
from tests.billing import books
from tests.routing.simulated import sync_simulated
from tests.routing.test_activity_page import sign_in


@pytest.fixture(autouse=True)
def _catalog(db, settings, tmp_path):
    settings.SANDBOX_BASE_URL = "http://127.0.0.1:1"
    sync_simulated(tmp_path)


def text(answer):
    assert answer.status_code == 200
    return answer.content.decode()


def test_anybody_sees_every_endpoint_with_its_price_policy_and_slug(client):
    page = text(client.get("/models/sandbox/meridian"))

    for said in (
        "sandbox-steady:sandbox/meridian",
        "sandbox-deep:sandbox/meridian",
        "$0.45",
        "keeps nothing",
    ):
        assert said in page
    assert '"model": "sandbox/meridian"' in page.replace("&quot;", '"')
    assert "Sign up to call it" in page and "style=" not in page


def test_a_model_that_nobody_offers_is_not_found(client):
    assert client.get("/models/sandbox/nothing").status_code == 404
    assert client.get("/models/nobody/nothing").status_code == 404


def test_a_customer_sees_prices_with_the_mark_up_or_without(client):
    sign_in(client, books.make_organization())

    with_it = text(client.get("/models/sandbox/meridian"))
    bare = text(client.get("/models/sandbox/meridian?prices=provider"))

    assert "What you pay (+10 %)" in with_it and "$0.495" in with_it
    assert "$0.495" not in bare and "$0.45" in bare
    assert "We keep only a fingerprint" in with_it


def test_samples_name_the_model_and_the_order_of_providers():
    plain = samples.calls("http://x/api/v1", "a/m")
    ordered = samples.calls("http://x/api/v1", "a/m", ["p", "q"])

    assert all("a/m" in each.code and "order" not in each.code for each in plain)
    assert all('["p", "q"]' in each.code for each in ordered)
    compile(plain[1].code, "python", "exec")
    compile(ordered[1].code, "python", "exec")


def test_charts_are_drawn_from_windows_and_answer_a_choice_of_span_alone(client):
    start = clock.now() - timedelta(minutes=10)
    fold = msgspec.to_builtins(Fold(worked=3, ttft={60: 3}), str_keys=True)
    Window.objects.create(endpoint="sandbox-deep:sandbox/meridian", start=start, worked=3, fold=fold)

    whole = text(client.get("/models/sandbox/meridian"))
    part = text(client.get("/models/sandbox/meridian?span=30d", headers={"HX-Request": "true"}))

    assert whole.count('class="fl-graph"') == 3 and "First token, median" in whole
    assert "Nobody has called it in this time" in part and "<html" not in part


def test_a_price_that_changed_is_told_with_what_it_was(client):
    slug = "sandbox-deep:sandbox/meridian"
    _, stated = prices.in_force(slug)
    prices.record(slug, {**stated, "output": "99"}, source="catalog")

    page = text(client.get("/models/sandbox/meridian"))
    assert f"output ${float(stated['output']):.2f} → $99.00" in page
