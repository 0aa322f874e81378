"""The first steps: whoever has no call is led there, nobody is kept there, and it tells what is so."""

from __future__ import annotations

import re

import pytest

from accounts import keys
from accounts.core import roles
from accounts.models import Key, Membership, User
from billing.core import generation
from billing.core.money import show_usd
from billing.core.pricing import parse_price
from routing import first_steps
from routing.core.listing import Endpoint, Listing, Model, Provider
from tests.billing import books

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def acme():
    return books.make_organization()


@pytest.fixture
def owner(client, acme):
    return join(client, acme, roles.OWNER, "alice@example.com")


def join(client, organization, role, email):
    user = User.objects.create(email=email)
    Membership.objects.create(organization=organization, user=user, role=role)
    client.force_login(user)
    return user


def test_whoever_has_no_call_lands_on_the_first_steps_and_others_in_the_app(client, acme, owner):
    assert client.get("/home")["Location"] == "/start"

    books.deliver(books.make_key(acme), books.make_price())

    assert client.get("/home")["Location"] in ("/overview", "/keys")


def test_the_first_steps_can_be_left_and_found_again(client, owner):
    left = client.post("/start/skip")

    assert left["Location"] == client.get("/home")["Location"] != "/start"
    page = client.get(left["Location"]).content.decode()
    assert 'href="/start"' in page, "in the menu"
    assert client.get("/start").status_code == 200


def test_one_click_makes_a_key_that_is_shown_once_and_stands_in_the_examples(client, acme, owner):
    page = client.post("/start/key", headers=HTMX)

    [text] = set(re.findall(r"fl_live_\w{12}_\w{38}", page.content.decode()))
    assert "no-store" in page["Cache-Control"]
    assert keys.principal(text).name == "First key"
    assert page.content.decode().count(text) == 4, "the field, curl, Python and JavaScript"
    again = client.get("/start").content.decode()
    assert text not in again and text[-4:] in again
    assert Key.objects.of(acme).get().created_by == owner


def test_the_call_is_seen_as_soon_as_it_is_there(client, acme, owner):
    waiting = client.get("/start/seen?n=3", headers=HTMX).content.decode()
    assert 'hx-trigger="every 1s, look"' in waiting and "n=4" in waiting

    call = books.deliver(books.make_key(acme), books.make_price())

    seen = client.get("/start/seen", headers=HTMX).content.decode()
    assert show_usd(call.charge_nanos) in seen and call.endpoint in seen
    assert f"/activity/{generation.public_id(call.pk)}" in seen
    assert "every" not in re.findall('hx-trigger="([^"]*)"', seen)[0], "nothing more to wait for"


def test_a_page_left_open_looks_less_often_and_then_gives_up(client, owner):
    late = client.get("/start/seen?n=100", headers=HTMX).content.decode()
    end = client.get("/start/seen?n=9999", headers=HTMX).content.decode()

    assert 'hx-trigger="every 5s, look"' in late
    assert 'hx-trigger="look"' in end and "No call came" in end


def test_a_member_sees_no_call_of_anybody_else(client, acme):
    call = books.deliver(books.make_key(acme, "of another"), books.make_price())
    join(client, acme, roles.MEMBER, "bob@example.com")

    seen = client.get("/start/seen", headers=HTMX).content.decode()

    assert generation.public_id(call.pk) not in seen and "Waiting" in seen


def test_without_credit_it_says_so_and_leads_to_adding_some(client, settings):
    settings.STARTING_CREDIT_USD = 0
    join(client, books.make_organization("poor", usd="0"), roles.OWNER, "carol@example.com")

    page = client.get("/start").content.decode()

    assert "There is no credit yet" in page and "Add credit" in page


def test_without_credit_the_first_call_goes_to_a_model_that_costs_nothing(settings):
    settings.STARTING_CREDIT_USD = 0
    poor = books.make_organization("poor", usd="0")
    listing = listing_of(("acme/dear", "1"), ("acme/free", "0"))

    assert first_steps.means(poor.pk, lambda: listing) == first_steps.Means("acme/free", False)
    assert first_steps.means(poor.pk, lambda: listing_of(("acme/dear", "1"))).model == ""
    assert first_steps.means(books.make_organization("rich").pk, lambda: listing).model == "auto"


def listing_of(*named):
    models, endpoints = {}, {}
    provider = Provider("p", "P", "openai", "", "")
    for slug, rate in named:
        model = Model(slug, slug, 128_000, 4000, "standard", False, frozenset(), 0)
        price = parse_price(1, {"input": rate, "output": rate})
        models[slug] = model
        endpoints[slug] = (Endpoint(f"p:{slug}", provider, model, slug, 4000, price, 0.5, 60.0),)
    return Listing(1, models, endpoints)
