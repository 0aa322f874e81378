"""A month on the pricing page comes to what billing would charge for it, call by call."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.core.management import call_command
from django.http import QueryDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.site import calculator
from billing import plans, quotes
from billing.core import discounts, pricing
from billing.core.discounts import Rule, Used
from billing.core.pricing import parse_price
from billing.core.usage import Usage
from billing.models import Plan
from billing.quotes import Use
from tests.routing.selecting import endpoint, listing_of

DOLLAR = 10**9
_TOKENS = st.integers(0, 200_000)
_AMOUNTS = st.integers(0, 10**8).map(lambda n: str(Decimal(n).scaleb(-6)))
_FRACTIONS = st.integers(0, 5000).map(lambda n: Decimal(n).scaleb(-4))
_USES = st.lists(
    st.builds(
        Use,
        st.builds(Usage, input=_TOKENS, cache_read=_TOKENS, output=_TOKENS),
        st.builds(
            lambda i, c, o: parse_price(1, {"input": i, "cache_read": c, "output": o}),
            *(_AMOUNTS, _AMOUNTS, _AMOUNTS),
        ),
        st.integers(0, 40),
    ),
    max_size=3,
)


def plan(
    markup: Decimal, discount: Decimal = Decimal(0), fee: int = 0, threshold: int = 1000 * DOLLAR
) -> Plan:
    return Plan(
        slug="p",
        name="P",
        markup=markup,
        monthly_nanos=fee,
        volume_discount=discount,
        discount_threshold_nanos=threshold,
        discount_basis="billed",
    )


_FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@_FEW
@given(uses=_USES, markup=_FRACTIONS, discount=_FRACTIONS, threshold=st.integers(0, 10 * DOLLAR))
def test_a_quote_is_the_sum_of_the_calls_one_by_one_with_fee_and_rebate(uses, markup, discount, threshold):
    charges = [pricing.charge(use.usage, use.price, markup) for use in uses for _ in range(use.requests)]
    base, charged = sum(one.base_nanos for one in charges), sum(one.nanos for one in charges)
    rebate = discounts.rebate([(Rule(discount, threshold), Used(base, charged))])

    quote = quotes.under(plan(markup, discount, 7 * DOLLAR, threshold), uses)

    assert (quote.base_nanos, quote.charge_nanos, quote.rebate_nanos) == (base, charged, rebate)
    assert quote.total_nanos == charged + 7 * DOLLAR - rebate
    assert quote.markup_nanos == charged - base


@_FEW
@given(
    cheap=_FRACTIONS, dear=_FRACTIONS, fee=st.integers(0, 500).map(lambda n: n * DOLLAR), discount=_FRACTIONS
)
def test_a_plan_pays_off_from_the_first_cent_at_which_it_is_no_dearer(cheap, dear, fee, discount):
    better, other = plan(cheap, discount, fee), plan(dear)

    found = quotes.pays_from(better, other)

    if found is None:
        assert cheap >= dear or fee
        return
    cent = 10**7
    assert quotes.of_base(better, found).total_nanos <= quotes.of_base(other, found).total_nanos
    if found and cheap < dear:
        before = found - cent
        assert quotes.of_base(better, before).total_nanos > quotes.of_base(other, before).total_nanos


def ask(query: str, *endpoints):
    return calculator.of(
        listing_of(*(endpoints or (endpoint("p0"), endpoint("p1", input="3")))), QueryDict(query)
    )


@pytest.mark.django_db
def test_what_is_typed_is_priced_at_the_endpoint_that_is_named_else_at_the_cheapest():
    found = ask("model=a/m0&in=1000&cached=400&out=100&requests=1,000")
    free, pro, business = found.quotes

    assert found.rows[0].chosen.provider.slug == "p0"
    assert [quote.plan for quote in found.quotes] == list(quotes.COMPARED)
    assert free.base_nanos == 1000 * (600 + 400 + 100) * 1000
    assert free.total_nanos == free.base_nanos * 11 // 10 and found.cheapest == "free"
    assert pro.fee_nanos == plans.current("pro").monthly_nanos == 9_990_000_000
    assert business.charge_nanos == business.base_nanos * 103 // 100

    dear = ask("model=a/m0&endpoint=p1:a/m0&in=1000&out=0&requests=1")
    assert dear.quotes[0].base_nanos == 3_000_000
    assert ask(found.query).quotes == found.quotes  # the address shows the same again


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("model=a/none&in=1", "model"),
        ("model=a/m0&in=-1", "in"),
        ("model=a/m0&in=1e3", "in"),
        ("model=a/m0&in=²", "in"),
        ("model=a/m0&in=9999&out=9999", "in"),
        ("model=a/m0&in=1&cached=2", "cached"),
        ("model=a/m0&in=1&requests=9999999999", "requests"),
        ("model=a/m0&out=99999999999999999999", "out"),
    ],
)
def test_what_cannot_be_priced_is_said_beside_its_field_and_nothing_is_quoted(query, field):
    found = ask(query)

    assert list(found.rows[0].errors) == [field] and not found.quotes and not found.cheapest


@pytest.mark.django_db
def test_several_models_add_up_and_an_empty_row_is_none():
    one = ask("model=a/m0&in=1000&requests=10")
    two = ask("model=a/m0&in=1000&requests=10&model=a/m0&in=1000&requests=10&model=&in=5&requests=5&add=1")

    assert len(two.rows) == 3 and not two.rows[2].typed["model"]
    assert two.quotes[0].base_nanos == 2 * one.quotes[0].base_nanos


@pytest.mark.django_db
def test_the_page_works_without_a_script_and_in_part(client, settings):
    settings.SANDBOX_BASE_URL = "http://127.0.0.1:1"
    call_command("sync_catalog")
    query = "model=sandbox/harbor&in=1000&out=500&requests=50000"

    whole = client.get(f"/pricing?{query}").content.decode()
    part = client.get(f"/pricing?{query}", headers={"HX-Request": "true"})

    assert 'value="sandbox/harbor"' in whole and "cheapest for this" in whole and "<html" in whole
    assert "<html" not in part.content.decode() and "cheapest for this" in part.content.decode()
    assert part.headers["HX-Push-Url"].startswith("/pricing?model=sandbox%2Fharbor&endpoint=&in=1000")
    assert "Pays off against Free from <strong>$199.80" in whole  # 9.99 / (10 % − 5 %)
    assert "<html" in client.get("/pricing").content.decode()
