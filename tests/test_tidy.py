"""The house stays tidy: limits, names, doors. Each rule is tried on a bad sample too."""

from __future__ import annotations

import inspect
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db.migrations.loader import MigrationLoader
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.urls import URLPattern, URLResolver, get_resolver

from aggregator.celery import app
from tests import tidy
from tests.product import PROJECT

APPS = ("aggregator", "accounts", "billing", "routing")
NOT_OURS = {".git", ".venv", "node_modules", "var", "staticfiles", "__pycache__", "LICENSE"}
LOCKS = (
    "deploy/bootstrap.lock",
    "requirements.lock",
    "tests/requirements.lock",
    "package-lock.json",
    ".npmrc",
)
READABLE = {
    "",
    ".py",
    ".md",
    ".toml",
    ".json",
    ".html",
    ".txt",
    ".css",
    ".js",
    ".sh",
    ".lock",
    ".example",
    ".svg",
}

UNSCOPED = {
    "billing/payments/customers.py": {"refresh"},
    "billing/payments/collected.py": {"of_payment"},
    "billing/payments/auto_top_ups.py": {"charge", "_waiting"},
    "billing/payments/crediting.py": {"of_payment"},
    "billing/payments/disputes.py": {"_noted", "_paid_with", "_warned"},
    "billing/operations.py": {"standing"},
    "billing/letters.py": {"write", "written", "send", "waiting"},
    "billing/documents/confirming.py": {"meant"},
    "billing/documents/issued.py": {"tell_waiting"},
    "billing/payments/postpaid.py": {"invoice_month", "refresh", "check_overdue", "paying_afterwards"},
    "billing/documents/closing.py": {"_paid"},
    "billing/documents/credit_notes.py": {"issue"},
    "billing/documents_admin.py": {"credit_note", "save_pdf"},
    "billing/documents/proofs.py": {"differences"},
    "billing/tasks.py": {"document_issued"},
    "billing/payments/stripe_books.py": {"_posting_of", "_payments_of"},
    "billing/payments/subscribed.py": {"end_grace", "_collect", "_row_of", "_named"},
    "billing/payments/refunds.py": {"_apply", "_ours", "_waiting"},
    "billing/payments/top_ups.py": {"_waiting"},
    "accounts/access.py": {"memberships"},
    "accounts/people.py": {"change", "take_factor"},
    "accounts/invitations.py": {"_refuse_too_many", "by_token", "remembered"},
    "accounts/signup.py": {"_tell_organizations"},
    "accounts/webhooks/events.py": {"send", "delete_aged"},
    "accounts/webhooks/letters.py": {"send_waiting"},
    "accounts/webhooks/delivery.py": {"_take", "_due"},
    "accounts/keyring.py": {"load"},
    "accounts/log_keys.py": {"hold", "rewrap"},
    "routing/request_logs.py": {"write"},
    "accounts/keys.py": {"principal", "flag_exposed"},
    "accounts/tasks.py": {"publish_key"},
    "billing/recompute.py": {"bills", "generations"},
    "billing/rebates.py": {"margin", "margins"},
    "billing/terms_admin.py": {"_wallet"},
    "billing/thresholds.py": {"_sum_up"},
}
"""Who may look past the owner of a row: signing in, the key store, proofs over all organizations, and what
Stripe names by an id of its own."""


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    tidy.forget()


GOES_OUT = {
    *("aggregator/worker.py", "aggregator/connections.py"),  # they listen
    "billing/flush.py",  # the name of this machine
    *("routing/connection_pool.py", "routing/upstream.py"),  # providers, whose addresses are the operator's
    *("routing/probes.py", "routing/published.py"),  # these too
    "aggregator/lib/egress.py",  # what customers name
}
"""Who speaks to other machines, beside the embedded default and the sandboxes: a URL that a customer gives
comes to the last of them, and to no other."""


def _files(*folders: str) -> Iterator[tuple[str, Path]]:
    for root in [PROJECT / folder for folder in folders] or [PROJECT]:
        for at, below, names in os.walk(root):
            below[:] = sorted(each for each in below if not _hidden(each))
            folder = Path(at)
            for name in sorted(names):
                path = folder / name
                if not _hidden(name) and path.is_file():
                    yield path.relative_to(PROJECT).as_posix(), path


def _hidden(part: str) -> bool:
    return part in NOT_OURS or part.endswith("_cache") or part == ".hypothesis"


def _modules(*folders: str) -> list[tuple[str, str]]:
    return [
        (name, path.read_text())
        for name, path in _files(*folders)
        if name.endswith(".py") and "/migrations/" not in name
    ]


def _breaches(rules: tuple[tidy.Rule, ...], files: list[tuple[str, str]]) -> list[str]:
    return [breach for name, text in files for rule in rules for breach in rule(name, text)]


# ── Limits and names ─────────────────────────────────────────────────────────────────────────────


def test_files_functions_and_arguments_keep_their_limits_and_modules_their_names():
    assert _breaches(tidy.EVERY_MODULE, _modules(*APPS, "tests", "deploy")) == []


def test_every_module_of_ours_opens_by_saying_what_it_knows():
    assert _breaches(tidy.OUR_MODULES, _modules(*APPS)) == []


def test_billing_has_no_float_but_seconds():
    assert _breaches((tidy.money_in_float,), _modules("billing")) == []


def test_nothing_names_one_machine_or_shows_a_secret():
    files = [
        (name, path.read_text())
        for name, path in _files()
        if path.suffix in READABLE and name != "tests/test_tidy.py"
    ]

    assert len(files) > 200
    assert _breaches(tidy.EVERY_FILE, files) == []


def test_locks_name_no_address():
    files = [(name, (PROJECT / name).read_text()) for name in LOCKS]

    assert _breaches((tidy.address_in_lock,), files) == []


BAD = {
    tidy.long_file: "x = 1\n" * 401,
    tidy.silent_module: "x = 1",
    tidy.long_function: "def f():\n" + "    x = 1\n" * 61,
    tidy.many_arguments: "class A:\n    def f(self, a, b, c, d, e, f): ...",
    tidy.broad_except: "try:\n    f()\nexcept (ValueError, Exception):\n    log()",
    tidy.money_in_float: "rate = 0.1",
    tidy.machine_path: "HERE = '/" + "home/someone/x'",
    tidy.secret: "key = 'sk_" + "live_0123456789abcdefghij'",
    tidy.address_in_lock: "a==1 @ https://index.example/simple",
}


@pytest.mark.parametrize("rule", BAD, ids=lambda rule: rule.__name__)
def test_a_rule_catches_its_bad_sample(rule: tidy.Rule):
    assert list(rule("billing/core/money.py", BAD[rule]))
    assert not list(rule("billing/core/money.py", '"""Knows nothing."""\n'))


@pytest.mark.parametrize(
    ("path", "line", "is_bad"),
    [
        ("billing/spool.py", "written: float = time.monotonic()", False),
        ("billing/spool.py", "file = folder / name", False),
        ("billing/spool.py", "await asyncio.sleep(0.02)", False),
        ("billing/spool.py", "share = total / 2", True),
        ("billing/spool.py", "nanos = seconds * 0.5", True),
        ("billing/core/money.py", "await asyncio.sleep(0.02)", True),
        ("billing/core/money.py", "half = nanos // 2", False),
        ("billing/core/money.py", "nanos /= 2", True),
        ("billing/core/money.py", "def f(x: float): ...", True),
        ("billing/core/money.py", "x = float('1')", True),
    ],
)
def test_floats_are_told_apart(path: str, line: str, is_bad: bool):
    assert bool(list(tidy.money_in_float(path, line))) == is_bad


def test_a_vague_name_is_caught():
    assert list(tidy.vague_name("billing/utils.py", ""))


def test_a_broad_except_that_raises_again_is_none():
    sample = "try:\n    f()\nexcept BaseException:\n    clean()\n    raise"
    hidden = "try:\n    f()\nexcept Exception:\n    def later():\n        raise"

    assert not list(tidy.broad_except("a.py", sample))
    assert list(tidy.broad_except("a.py", hidden))


# ── Names in strings ─────────────────────────────────────────────────────────────────────────────


def _exists(template: str) -> bool:
    try:
        get_template(template)
    except TemplateDoesNotExist:
        return False
    return True


def _url_names(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    for entry in resolver.url_patterns:
        if isinstance(entry, URLPattern):
            if entry.name:
                yield prefix + entry.name
        else:
            yield from _url_names(entry, f"{prefix}{entry.namespace}:" if entry.namespace else prefix)


def test_every_template_that_is_named_exists():
    pages = [path.read_text() for _, path in _files("templates")]
    named = {name for _, text in _modules(*APPS) for name in tidy.templates_in_code(text)}
    named |= {name for text in pages for name in tidy.templates_in_template(text)}

    assert "accounts/keys.html" in named
    assert {name for name in named if not _exists(name)} == set()
    assert not _exists("accounts/nowhere.html")


def test_every_link_of_a_page_leads_somewhere():
    named = {name for _, path in _files("templates") for name in tidy.links(path.read_text())}

    assert "accounts:keys" in named
    assert named - set(_url_names(get_resolver())) == set()
    assert tidy.links('<a href="{% url "accounts:nowhere" %}">') == {"accounts:nowhere"}


def test_every_job_that_is_enqueued_is_registered_and_takes_its_arguments():
    app.loader.import_default_modules()
    wanted = [job for _, text in _modules(*APPS) for job in tidy.jobs(text)]

    assert {name for name, _ in wanted} >= {"billing.open_wallet", "accounts.publish_key"}
    for name, arguments in wanted:
        assert name in app.tasks, f"no job {name}"
        assert arguments <= set(inspect.signature(app.tasks[name].run).parameters), name
    assert list(tidy.jobs("jobs.enqueue('billing.nothing', a=1)")) == [("billing.nothing", frozenset("a"))]


def test_every_job_of_the_timetable_is_registered():
    app.loader.import_default_modules()

    assert {entry["task"] for entry in app.conf.beat_schedule.values()} <= set(app.tasks)


def test_migrations_follow_each_other_in_one_line():
    assert MigrationLoader(None).detect_conflicts() == {}


# ── Looks ────────────────────────────────────────────────────────────────────────────────────────


def test_our_own_style_sheets_stay_small_and_readable():
    sheets = [(name, path.read_text()) for name, path in _files("aggregator/static") if path.suffix == ".css"]
    lines = [(name, line) for name, text in sheets for line in text.splitlines()]

    assert 0 < len(lines) < 300
    assert [(name, line) for name, line in lines if tidy.crowded(line)] == []
    assert tidy.crowded(".a { top: 0; } .b { top: 0; }") and tidy.crowded("." + "a" * 160 + " {")
    assert not tidy.crowded(".a { top: 0; }")


def test_every_class_of_ours_is_styled_and_worn():
    sheets = [path.read_text() for _, path in _files("aggregator/static") if path.suffix == ".css"]
    worn_in = [path.read_text() for _, path in _files("templates")] + [text for _, text in _modules(*APPS)]
    worn_in += [path.read_text() for _, path in _files("aggregator/static") if path.suffix == ".js"]
    styled = {name for text in sheets for name in tidy.styled(text)}
    worn = {name for text in worn_in for name in tidy.worn(text)}

    assert "fl-figure" in styled & worn
    assert tidy.at_odds(styled, worn) == set()
    assert tidy.at_odds({"fl-a", "fl-b", "fl-c-1"}, {"fl-a", "fl-c-", "fl-d"}) == {"fl-b", "fl-d"}


# ── Doors ────────────────────────────────────────────────────────────────────────────────────────


def test_whoever_looks_past_the_owner_of_a_row_is_listed():
    found = {name: tidy.unscoped_uses(text) for name, text in _modules(*APPS)}

    assert {name: uses for name, uses in found.items() if uses} == UNSCOPED
    assert tidy.unscoped_uses("def f():\n    Key.unscoped.get()") == {"f"}
    assert tidy.unscoped_uses("keys = Key.unscoped.all()") == {""}


def test_whoever_speaks_to_other_machines_is_listed():
    found = {name for name, text in _modules(*APPS) if tidy.goes_out(text)}
    aside = ("aggregator/embedded/", "billing/sandbox/", "routing/sandbox/")

    assert {name for name in found if not name.startswith(aside)} == GOES_OUT
    assert tidy.goes_out("import httpx") and tidy.goes_out("await asyncio.open_connection(host, 80)")
    assert tidy.goes_out("from urllib.request import urlopen") and not tidy.goes_out("import json")


def _contracts() -> dict[str, dict[str, object]]:
    text = (PROJECT / "pyproject.toml").read_text()
    return {contract["id"]: contract for contract in tomllib.loads(text)["tool"]["importlinter"]["contracts"]}


@pytest.mark.parametrize("app_name", ["accounts", "billing", "routing"])
def test_every_module_below_the_models_is_held_to_be_pure(app_name: str):
    contracts = _contracts()
    layers = contracts[app_name]["layers"]
    assert isinstance(layers, list)
    below = layers[layers.index("models") + 1 :]
    names = {name.strip(" ()") for layer in below for name in layer.replace(":", "|").split("|")}

    pure = contracts["core"]["source_modules"]
    assert isinstance(pure, list)
    assert {f"{app_name}.{name}" for name in names - {"owned", "sandbox"}} - set(pure) == set()
