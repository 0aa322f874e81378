"""Every page there is, as each role, in a real browser: nothing breaks, every link leads on, all can read it.

The pages are those of `urls.py`. One that is added there is walked at once; where a part of its address is
new, or it answers in another way than a page does, this fails and names it.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urldefrag

import httpx
import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from playwright.sync_api import Browser

from tests import house
from tests.examining import Walk
from tests.house import House
from tests.product import Product

pytestmark = pytest.mark.xdist_group("product")

ANYBODY, MEMBER, OWNER = "anybody", "member", "owner"
ROLES = (ANYBODY, MEMBER, OWNER)

OPEN = {
    *("site:landing", "site:docs", "site:doc", "routing:models", "routing:model", "accounts:invitation"),
    *("account_login", "account_signup", "account_reset_password", "account_password_reset_completed"),
    *("account_inactive", "site:pricing", "site:contact", "site:thanks", "site:numbers"),
    "site:status",
}
"""For anybody; all others ask who one is."""

OF_OWNERS = {
    *("accounts:member", "accounts:member_remove", "accounts:member_transfer"),
    *("accounts:audit", "accounts:audit_csv", "accounts:log_deletion"),
    *("billing:overview", "billing:payment", "billing:history", "billing:receipt", "billing:refund"),
    *("billing:plan", "accounts:webhooks", "accounts:webhook_new", "accounts:webhook"),
    *("accounts:webhook_edit", "accounts:webhook_rotate", "accounts:webhook_delete"),
    "accounts:webhook_delivery",
    *("billing:budget_new", "billing:budget", "billing:budget_delete"),
    *("billing:plan", "billing:profile", "billing:documents", "billing:running", "billing:document"),
    *("billing:document_pdf", "billing:document_csv", "billing:document_json"),
}
"""What a member hears 403 from."""

LEADS_ON = {
    *("account_login", "account_signup", "account_email_verification_sent", "account_set_password"),
    *("account_confirm_login_code", "account_confirm_password_reset_code", "mfa_authenticate"),
    *("account_complete_password_reset", "mfa_reauthenticate", "mfa_reauthenticate_webauthn"),
    *("routing:home", "routing:start_seen", "billing:receipt", "mfa_activate_totp"),
    *("mfa_generate_recovery_codes", "mfa_add_webauthn", "mfa_login_webauthn"),
}
"""No page of its own for whoever is signed in: it sends them where they belong."""

NOT_THERE = {
    *("mfa_deactivate_totp", "mfa_view_recovery_codes", "mfa_download_recovery_codes"),
    *("mfa_remove_webauthn", "mfa_edit_webauthn", "billing:metrics", "billing:address"),
}
"""Not found: of a second factor that these people do not have, or by a token that nobody shows here."""

SILENT = {"routing:activity_new"}
"""Asked by a script for what is new: an empty 204 when there is nothing."""

NO_PAGES = ("admin/", "api/v1/", "v1/")
"""The operators' pages are Unfold's own; the API has tests of its own."""

NARROW = {
    *("/", "/docs/reference", "/models", "/keys", "/activity", "/billing", "/organization/members"),
    *("/budgets", "/billing/invoices"),
}
"""Examined by axe at 390 px as well."""

FRAMED = NARROW - {"/docs/reference"}
"""Examined for the owner too, for their frame, though anybody sees them. The reference is a long page."""

FIRST_PAGE_BYTES = 150_000
FIRST_PAGE_SECONDS = 0.1

_PART = re.compile(r"<(?:\w+:)?(\w+)>")
# ── Which pages there are ────────────────────────────────────────────────────────────────────────


def _patterns(resolver: URLResolver, prefix: str = "", space: str = "") -> Iterator[tuple[str, str]]:
    """(name, address) of every page, with its parts still open."""
    for entry in resolver.url_patterns:
        route = prefix + str(entry.pattern)
        if route.startswith(NO_PAGES):
            continue
        if isinstance(entry, URLPattern):
            yield f"{space}{entry.name}", route
        else:
            yield from _patterns(entry, route, f"{space}{entry.namespace}:" if entry.namespace else space)


@functools.cache
def _named() -> dict[str, str]:
    return dict(_patterns(get_resolver()))


@pytest.fixture(scope="module")
def home(product: Product) -> House:
    return house.furnish(product)


@pytest.fixture(scope="module")
def addresses(home: House) -> dict[str, str]:
    """The name of each page → its address with real ids in it."""
    ids = {**home.ids, "pk": "1"}
    lacking = {
        name: missing for name, route in _named().items() if (missing := set(_PART.findall(route)) - set(ids))
    }
    assert not lacking, f"tests/house.py has nothing that stands for these parts of addresses: {lacking}"
    found = {name: "/" + _PART.sub(lambda part: ids[part[1]], route) for name, route in _named().items()}
    return {**found, **{f"site:doc {slug}": f"/docs/{slug}" for slug in _docs()}}


def _docs() -> list[str]:
    from aggregator.site import library

    return [doc.slug for doc in library.DOCS if doc.slug]


@pytest.fixture(scope="module")
def clients(product: Product, home: House) -> Iterator[dict[str, httpx.Client]]:
    made = {
        role: httpx.Client(
            base_url=product.base_url,
            cookies={"session": home.sessions[role]} if role in home.sessions else {},
            trust_env=False,
            timeout=60,
        )
        for role in (*ROLES, "operator")
    }
    yield made
    for client in made.values():
        client.close()


def _expected(name: str, role: str) -> set[int]:
    name = name.partition(" ")[0]
    if name in NOT_THERE:
        return {302, 404}
    if role == ANYBODY:
        return {200} if name in OPEN else {302}
    if role == MEMBER and name in OF_OWNERS:
        return {403}
    if name in SILENT:
        return {200, 204}
    return {302, 303} if name in LEADS_ON else {200}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: httpx.Headers
    is_page: bool
    """A whole one. Parts of pages, which a script asks for, are none."""


@pytest.fixture(scope="module")
def answers(clients: dict[str, httpx.Client], addresses: dict[str, str]) -> dict[str, dict[str, Answer]]:
    """What each role hears at each address, asked once."""
    return {
        role: {path: _answer(clients[role].get(path)) for path in dict.fromkeys(addresses.values())}
        for role in ROLES
    }


def _answer(said: httpx.Response) -> Answer:
    shown = said.status_code == 200 and said.content.startswith(b"<!doctype html>")
    return Answer(said.status_code, said.headers, shown)


def test_every_page_answers_each_role_as_it_should(answers, addresses):
    wrong = []
    for role in ROLES:
        for name, path in addresses.items():
            answer = answers[role][path]
            if answer.status == 405:
                fine = "GET" not in answer.headers["allow"]
            else:
                fine = answer.status in _expected(name, role)
            if role == ANYBODY and answer.status == 302 and name not in LEADS_ON | NOT_THERE:
                fine = fine and answer.headers["location"].startswith(("/accounts/login/", "/?", "/"))
            if not fine:
                wrong.append(f"{name} {path} as {role}: {answer.status}, not {_expected(name, role)}")
    assert not wrong, "\n".join(wrong)


def test_what_is_said_of_pages_here_is_said_of_pages_that_there_are():
    listed = OPEN | OF_OWNERS | LEADS_ON | NOT_THERE | SILENT

    assert listed - _named().keys() == set()


# ── In the browser ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def walks(product: Product, home: House, browser: Browser) -> Iterator[dict[str, Walk]]:
    made = {}
    for role in ROLES:
        context = browser.new_context(
            locale="en-US", viewport={"width": 1280, "height": 900}, reduced_motion="reduce"
        )
        if role in home.sessions:
            context.add_cookies(
                [{"name": "session", "value": home.sessions[role], "url": product.base_url, "httpOnly": True}]
            )
        made[role] = Walk(role, product.base_url, context, examines=role != MEMBER)
    yield made
    for walk in made.values():
        walk.context.close()


def _pages(role: str, answers: dict[str, dict[str, Answer]]) -> list[str]:
    """The addresses that show this role a page."""
    found = [path for path, answer in answers[role].items() if answer.is_page]
    assert len(found) > 5
    return found


@pytest.mark.parametrize("role", [ANYBODY, OWNER])
def test_every_page_can_be_read_by_all_and_breaks_nothing(walks, answers, role):
    walk = walks[role]
    found = _pages(role, answers)
    if role == OWNER:  # what anybody sees is the same but for its frame, of which a few are enough
        found = [path for path in found if path not in walks[ANYBODY].ids_of_paths() or path in FRAMED]
    for path in found:
        walk.examine(path, narrow=path in NARROW)
    assert not walk.troubles, "\n".join(walk.troubles)


def test_a_members_pages_break_nothing(walks, answers):
    walk = walks[MEMBER]
    for path in sorted(set(_pages(MEMBER, answers)) - set(_pages(ANYBODY, answers))):
        walk.open(path)
    assert not walk.troubles, "\n".join(walk.troubles)


@pytest.mark.parametrize("role", ROLES)
def test_every_link_of_a_page_leads_somewhere(walks, clients, answers, role):
    """After the walks: what they found, each address once. Signing out asks first, so it may be followed."""
    walk, wrong = walks[role], []
    pages = (path for path, answer in answers[role].items() if answer.status == 200)
    answered = {walk.base_url + path: 200 for path in pages}
    assert walk.links, "the walk was not made"
    for link, at in walk.links.items():
        target, anchor = urldefrag(link)
        if not target.startswith(walk.base_url):
            if not target.startswith("mailto:"):
                wrong.append(f"{at}: {link} is another host's")
            continue
        if target not in answered:
            answered[target] = clients[role].get(target, follow_redirects=True).status_code
        if answered[target] != 200:
            wrong.append(f"{at}: {link} answers {answered[target]}")
        elif anchor and target in walk.ids and anchor not in walk.ids[target]:
            wrong.append(f"{at}: {link} has no such anchor")
    assert not wrong, "\n".join(wrong)


def test_the_first_page_is_light_and_quick(browser, product, clients):
    context = browser.new_context()
    page = context.new_page()
    sizes = []
    page.on("requestfinished", lambda request: sizes.append(request.sizes()))
    page.goto(product.base_url, wait_until="networkidle")
    context.close()
    seconds = []
    for _ in range(12):
        begun = time.perf_counter()
        assert clients[ANYBODY].get("/").status_code == 200
        seconds.append(time.perf_counter() - begun)

    sent = sum(each["responseBodySize"] for each in sizes)
    print(f"first page: {sent} bytes in {len(sizes)} answers; {min(seconds) * 1000:.0f} ms at best")
    assert len(sizes) > 3 and sent < FIRST_PAGE_BYTES
    assert min(seconds) < FIRST_PAGE_SECONDS


# ── The operators' pages ─────────────────────────────────────────────────────────────────────────


def test_the_operators_lists_and_their_forms_open_and_no_one_else_sees_them(clients):
    from django.contrib import admin

    for model in admin.site._registry:
        path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        assert clients["operator"].get(path).status_code == 200, path
        for role in ROLES:
            assert clients[role].get(path).status_code == 302, path
