"""The audit log: every change in words, found by who, what and when, and taken along as a file."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable

import pytest
from django.test import Client

from accounts import audit, audit_log, keys, members, signup
from accounts.core import roles
from accounts.models import AuditEntry, Key, Membership, Organization, User
from accounts.webhooks import events
from tests.product import PROJECT

pytestmark = pytest.mark.django_db
Browser = Callable[[User], Client]


def said(client: Client, **asked: str) -> list[str]:
    found = client.get("/organization/audit", asked).context["lines"]
    return [f"{line.actor} {line.did} {line.object}".strip() for line in found]


def test_a_change_is_told_in_words(alice: User, bob: User, home: Organization, key: Key, browser: Browser):
    keys.update(key, by=alice, name="checkout", limit_nanos=25 * 10**8)
    members.change_role(
        Membership.objects.of(home).get(user=alice), Membership.objects.of(home).get(user=bob).pk, roles.ADMIN
    )

    assert said(browser(alice))[:3] == [
        "alice@example.com changed the role of bob@example.com",
        "alice@example.com changed the key “checkout”",
        "alice@example.com made the key “checkout”",
    ]
    page = browser(alice).get("/organization/audit").content.decode()
    assert "role: member → admin" in page
    assert "name: production → checkout · limit: none → $2.5" in page


def test_the_log_is_found_by_who_what_when_and_words(
    alice: User, bob: User, home: Organization, key: Key, browser: Browser
):
    keys.create(home, name="bob's", by=bob)
    audit.record(home, "credit.granted", by="operator", object="wallet", detail={"note": "with thanks"})
    client = browser(alice)

    assert said(client, actor="user:bob@example.com") == ["bob@example.com made the key “bob's”"]
    assert said(client, kind="billing") == ["Fairlead (operator) granted credit"]
    assert said(client, q="with thanks") == ["Fairlead (operator) granted credit"]
    assert said(client, q="nowhere to be found") == []
    assert len(said(client, days="1")) == len(said(client)) == 4
    assert len(said(client, kind="nothing", days="x")) == 4, "what is no filter filters nothing"


def test_the_log_goes_by_pages(alice: User, home: Organization, browser: Browser):
    for number in range(60):
        audit.record(home, "organization.renamed", by=alice, object=f"step-{number}")
    client = browser(alice)

    first = client.get("/organization/audit")
    second = client.get("/organization/audit" + first.context["list"].more)

    assert len(first.context["lines"]) == 50
    assert len(second.context["lines"]) == 11


def test_the_file_holds_what_the_page_found_and_runs_nothing(
    alice: User, home: Organization, browser: Browser
):
    signup.rename(home, "=HYPERLINK(1)", by=alice)
    keys.create(home, name="k", by="=cmd()")
    audit.record(home, "refund.made", by=None, object="=1+1", detail={"cents": 100})

    answer = browser(alice).get("/organization/audit.csv", {"kind": "billing"})

    rows = list(csv.reader(answer.content.decode().splitlines()))
    assert rows[0] == ["at", "actor", "did", "object", "details"]
    [row] = rows[1:]
    assert row[1:] == ["Fairlead", "refunded a payment", "'=1+1", "cents: 100"]
    assert answer["Content-Disposition"].endswith('"audit.csv"')


def test_a_member_does_not_read_the_log(bob: User, home: Organization, browser: Browser):
    for path in ("/organization/audit", "/organization/audit.csv"):
        assert browser(bob).get(path).status_code == 403
    assert "Audit log" not in browser(bob).get("/organization").content.decode()


def test_the_log_of_another_organization_stays_there(
    alice: User, mallory: User, home: Organization, away: Organization, browser: Browser
):
    asked = {"actor": "user:alice@example.com", "q": "alice"}

    assert said(browser(mallory), **asked) == []
    body = browser(mallory).get("/organization/audit.csv").content
    assert b"alice" not in body
    assert AuditEntry.objects.of(home).exists()


def test_every_verb_that_the_code_writes_has_words():
    kinds = {verb.partition(".")[0] for verb in audit_log.WORDS}
    verb = re.compile(rf'"((?:{"|".join(kinds)})\.[a-z_]+)"')
    written: set[str] = set()
    for app in ("accounts", "billing", "routing"):
        for path in (PROJECT / app).rglob("*.py"):
            text = path.read_text()
            if "audit.record(" in text and path.name != "audit_log.py":
                written |= set(verb.findall(text)) - set(events.TYPES)

    assert {"key.changed", "member.removed", "top_up.paid", "plan.set"} <= written
    assert written - set(audit_log.WORDS) == set()
