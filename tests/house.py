"""An organization with people, keys, calls and payments beside a running product: for tests of pages.

`furnish` runs in a process with the product's settings, and says each person's session and every id that an
address may carry.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg

from tests.product import PROJECT, Product

PASSWORD = "seven green bottles"


@dataclass(frozen=True)
class House:
    sessions: dict[str, str]
    """Role → the cookie `session`: owner, member, operator, and guest, who is invited."""
    ids: dict[str, str]
    """What stands for each part of an address."""
    api_key: str


def furnish(product: Product) -> House:
    """The rows, and then real calls: one well, one that failed, one streamed, so that no page is empty."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.house"],
        cwd=PROJECT,
        env={**product.environment, "DJANGO_SETTINGS_MODULE": "aggregator.settings"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    headers = {"Authorization": f"Bearer {said['api_key']}"}
    ask = {"messages": [{"role": "user", "content": "Say hello to the harbour"}], "max_tokens": 8}
    with httpx.Client(base_url=product.api_base, headers=headers, trust_env=False, timeout=30) as client:
        for model in ("sandbox/fault-500", "auto", "sandbox/pebble", "auto"):
            answer = client.post("/chat/completions", json={**ask, "model": model})
        call = answer.headers["x-generation-id"]
    said["ids"]["generation_id"] = call
    until, its_row = time.monotonic() + 30, "SELECT 1 FROM generations WHERE id = %s"
    with psycopg.connect(product.database_url, autocommit=True) as rows:
        while not rows.execute(its_row, [call.removeprefix("gen-")]).fetchall():
            assert time.monotonic() < until, "the call was not written"
            time.sleep(0.1)
    return House(**said)


def _make() -> dict[str, object]:
    """In the process with the product's settings."""
    from datetime import timedelta

    from accounts import invitations, keys, members, privacy, signup
    from accounts.core import roles
    from accounts.models import Invitation, Membership, User
    from aggregator.lib import clock
    from billing import wallets
    from routing import request_logs

    slug = f"house-{time.time_ns() % 10**9}"
    owner, organization = signup.register(f"owner@{slug}.invalid", PASSWORD, slug=slug, name="Harbour works")
    wallets.open_wallet(organization.pk)
    wallets.grant(slug, 20 * 10**9)
    people = {
        role: User.objects.create_user(f"{role}@{slug}.invalid", PASSWORD, **more)
        for role, more in (
            ("member", {}),
            ("guest", {}),
            ("operator", {"is_staff": True, "is_superuser": True}),
        )
    }
    belongs = members.add(organization, people["member"], roles.MEMBER)
    key, text = keys.create(organization, name="Nightly job", by=people["member"])
    keys.create(organization, name="Management", by=owner, scope=roles.MANAGEMENT)
    paid = _paid(organization, slug)
    token = f"tokenof{slug[6:]}".ljust(32, "0")
    invitation = Invitation.objects.create(
        organization=organization,
        email=people["guest"].email,
        role=roles.MEMBER,
        digest=invitations._digest(token),
        expires_at=clock.now() + timedelta(days=7),
    )
    privacy.set_logging(organization, privacy.LogRules(on=True), by=owner)
    deletion = request_logs.delete_everything(organization, by=owner)
    privacy.set_logging(organization, privacy.LogRules(on=True), by=owner)
    assert Membership.objects.of(organization).count() == 2
    return {
        "sessions": {role: _session(person) for role, person in {**people, "owner": owner}.items()},
        "api_key": text,
        "ids": {
            "key": key.public_id,
            **dict.fromkeys(("top_up", "payment"), str(paid.pk)),
            "document_id": str(statement_of(organization, key, slug)[0].pk),
            "what": "top_up",
            "plan": "pro",
            "member": str(belongs.pk),
            "invitation": str(invitation.pk),
            "token": token,
            "author": "sandbox",
            "model": "harbor",
            "slug": "errors",
            "session": "1",
            "deletion": deletion.public_id,
            **_webhook(organization, owner),
            **_budgets(organization),
        },
    }


def _budgets(organization: Any) -> dict[str, str]:
    """One of each kind; the last's id."""
    from billing import limits

    for kind, window in (("organization", "month"), ("member", "week"), ("end_user", "day")):
        made = limits.set_budget(organization, kind=kind, window=window, limit_nanos=500 * 10**9, by="house")
    return {"budget": made.public_id}


def _paid(organization: object, slug: str) -> Any:
    """A top-up that came in."""
    from aggregator.lib import clock
    from billing.models import TopUp

    return TopUp.objects.create(
        organization=organization,
        kind="checkout",
        state="paid",
        cents=2000,
        charge_id=f"ch_{slug}",
        ended_at=clock.now(),
    )


def _webhook(organization: Any, by: Any) -> dict[str, str]:
    """One to which a test was sent in vain: nobody listens there."""
    from accounts.webhooks import delivery, endpoints

    row, _ = endpoints.add(organization, name="Finance", url="http://127.0.0.1:1/", wanted=(), by=by)
    sent = endpoints.test(row, by=by)
    delivery.deliver_due()
    return {"webhook": row.public_id, "delivery": str(sent.pk)}


def statement_of(organization: Any, key: Any, slug: str, *, calls: int = 1) -> tuple[Any, list[Any]]:
    """The document of a month that was closed with some calls of this key, and these."""
    from datetime import timedelta

    from aggregator.lib import clock
    from billing import gate, months, posting, rebates
    from billing.documents import closing
    from billing.models import Document
    from tests.billing import books

    months.make_coming()
    price = books.make_price(f"{slug}:acme/swift")
    at = clock.now().replace(day=1) - timedelta(days=3)
    made = [books.deliver(key, price, at=at + timedelta(minutes=minute)) for minute in range(calls)]
    until = time.monotonic() + 60
    while True:
        posting.post_generations()
        try:
            closing.close_month(rebates.last_month())
        except rebates.NotClosable:
            assert time.monotonic() < until, "the month could not be closed"
        issued = Document.objects.of(organization).first()
        if issued is not None:
            gate.reload(organization.public_id)  # no gateway has told it of these calls
            return issued, made
        time.sleep(0.5)


def _session(person: object) -> str:
    """Signed in a moment ago, so that nothing asks for the password again."""
    from allauth.account.models import EmailAddress
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    EmailAddress.objects.update_or_create(
        user=person, email=person.email, defaults={"verified": True, "primary": True}
    )
    store = SessionStore()
    store[SESSION_KEY] = str(person.pk)
    store[BACKEND_SESSION_KEY] = "allauth.account.auth_backends.AuthenticationBackend"
    store[HASH_SESSION_KEY] = person.get_session_auth_hash()
    store["account_authentication_methods"] = [
        {"method": "password", "at": time.time(), "email": person.email}
    ]
    store["account_authentication_methods_user"] = str(person.pk)
    store.create()
    return store.session_key


if __name__ == "__main__":
    import django

    django.setup()
    print(json.dumps(_make()))
