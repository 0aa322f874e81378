"""Two planes, one table: what it gives to one the other does not serve, and every route has its scope."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import pytest
from django.urls import Resolver404, URLPattern, URLResolver, get_resolver, resolve

from accounts.core import roles
from aggregator import asgi, planes
from aggregator.planes import DATA, MANAGEMENT, PREFIXES, ROUTES, Route

PUBLIC = {"models", "model", "endpoints", "openapi"}
"""What anybody may read without a key."""

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

everywhere = pytest.mark.parametrize(
    ("route", "path"),
    [
        pytest.param(
            route, prefix + re.sub(r"\{\w+\}", "x", route.path), id=f"{route.method} {prefix}{route.path}"
        )
        for route, prefix in itertools.product(ROUTES, PREFIXES)
    ],
)


@everywhere
def test_django_serves_the_management_routes_and_no_other(route: Route, path: str):
    if route.plane == DATA:
        with pytest.raises(Resolver404):
            resolve(path)
        return

    found = resolve(path)

    assert route.plane == MANAGEMENT
    assert found.url_name == route.name
    assert hasattr(found.func.view_class, route.method.lower())


@everywhere
def test_the_server_hands_each_route_to_its_plane(route: Route, path: str):
    assert planes.find(route.method, path) == route
    for method in METHODS:
        assert asgi._is_data(method, path) == (route.plane == DATA)


def test_django_answers_to_no_method_that_the_table_does_not_list():
    for prefix in PREFIXES:
        (under,) = [entry for entry in get_resolver().url_patterns if str(entry.pattern) == f"{prefix[1:]}/"]
        for entry in under.url_patterns:
            assert isinstance(entry, URLPattern)
            path = f"{prefix}/" + re.sub(r"<[^>]+>", "x", str(entry.pattern))
            served = {method for method in METHODS if hasattr(entry.callback.view_class, method.lower())}

            assert served == set(planes.methods(path)), path


def test_what_the_table_does_not_know_is_refused_by_the_data_plane():
    for prefix in PREFIXES:
        assert asgi._is_data("GET", f"{prefix}/nothing")
        assert asgi._is_data("GET", f"{prefix}/keys/")
    assert not asgi._is_data("GET", "/keys")
    assert not asgi._is_data("GET", "/api/v2/models")


def test_every_route_has_a_scope_that_some_key_holds_or_is_public_by_name():
    held = set().union(*roles.SCOPES.values())

    for route in ROUTES:
        assert (route.scope is None) == (route.name in PUBLIC), route
        assert route.scope is None or route.scope in held, route
        assert route.plane in (DATA, MANAGEMENT), route


def test_a_name_stands_for_one_path_and_a_method_on_it_is_listed_once():
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert len({route.name for route in ROUTES}) == len({route.path for route in ROUTES})


def test_reading_the_head_of_a_route_is_reading_it():
    assert planes.find("HEAD", "/v1/models") == planes.find("GET", "/v1/models")


def test_a_hook_is_served_by_django_beside_the_table_and_only_to_who_posts():
    found = resolve(f"{planes.HOOKS}stripe")

    assert not any(asgi._is_data(method, f"{planes.HOOKS}stripe") for method in METHODS)
    assert found.func.csrf_exempt
    assert [entry.name for entry in _exempt(get_resolver())] == ["stripe_hook"]


def _exempt(resolver: URLResolver) -> Iterator[URLPattern]:
    """Whatever takes a form without the token that shows who sent it, but for what keys authorise."""
    for entry in resolver.url_patterns:
        if isinstance(entry, URLResolver):
            if f"/{entry.pattern}" not in {f"{prefix}/" for prefix in PREFIXES}:
                yield from _exempt(entry)
        elif getattr(entry.callback, "csrf_exempt", False):
            yield entry
