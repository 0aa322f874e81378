"""What tests of payments share: organizations that pay at the simulated Stripe, and what came of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from accounts.models import Key, Membership, Organization, User
from aggregator.lib import clock, kv
from billing import gate, posting, wallets
from billing.core.budgets import wallet_account
from billing.models import Alert, Customer, Letter, Posting, TopUp
from billing.payments import customers, top_ups
from tests.billing import books, stripe_stand

VISA = "4242424242424242"
CENT = 10_000_000
DOLLAR = 100 * CENT


def organization(slug: str = "acme") -> Organization:
    """An owner, a wallet without credit, and a gate that has loaded it."""
    owner = User.objects.create_user(f"{slug}@example.com")
    made = Organization.objects.create(slug=slug, name=slug.title())
    Membership.objects.create(organization=made, user=owner, role="owner")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.conf.settings.STARTING_CREDIT_USD", 0)
        wallets.open_wallet(made.pk)
    shard = kv.shard(made.public_id)
    kv.gate().delete(gate.epoch_key(shard))
    assert gate.open_epoch(shard, gate.begin(shard)) == []
    gate.reload(made.public_id)
    return made


def owner(made: Organization) -> User:
    return Membership.objects.of(made).get().user


def begin(made: Organization, cents: int = 20_00, **options: Any) -> tuple[TopUp, str]:
    """A top-up that was begun, and the address of its payment page."""
    url = top_ups.begin(made, cents, by=owner(made), **options)
    return TopUp.objects.of(made).order_by("-created_at").first(), url


def buy(stand: stripe_stand.Stand, made: Organization, cents: int = 20_00, **options: Any) -> TopUp:
    """A top-up that was paid and looked at."""
    number = options.pop("number", VISA)
    row, url = begin(made, cents, **options)
    assert stand.pay(url, number).status_code == 303
    row = top_ups.look(row)
    assert row.state == TopUp.State.PAID
    return row


def save_card(stand: stripe_stand.Stand, made: Organization, name: str = "pm_card_visa") -> str:
    """Keep one of Stripe's test cards for the organization; its id."""
    customer = customers.ensure(made, email=owner(made).email)
    card = stand.client().v1.payment_methods.attach(name, {"customer": customer}).id
    stand.client().v1.customers.update(customer, {"invoice_settings": {"default_payment_method": card}})
    customers.refresh(customer)
    return card


def spend(made: Organization, nanos: int, *, post: bool = True) -> None:
    """A call of this charge, posted or only delivered."""
    key = Key.objects.of(made).first() or books.make_key(made)
    price = books.make_price(f"{made.slug}:acme/swift")
    books.deliver(key, price, charge_nanos=nanos, base_nanos=nanos)
    gate.reload(made.public_id)  # it hears of a call before PostgreSQL does
    if post:
        posting.post_generations()


def balance(made: Organization) -> int:
    return books.balance(made)


def spendable(made: Organization) -> int:
    return gate.look(wallet_account(made.public_id, made.pk)).spendable


def age(row: Any, **by: int) -> None:
    """Make a row of ours older."""
    type(row).objects.of(row.organization_id).filter(pk=row.pk).update(
        created_at=clock.now() - timedelta(**by)
    )


def customer_of(made: Organization) -> str:
    return str(Customer.objects.of(made).get().stripe_id)


def there(stand: stripe_stand.Stand, made: Organization, kind: str) -> list[dict[str, Any]]:
    """What Stripe has of this kind for the organization."""
    return stand.look("objects", customer=customer_of(made)).get(kind, [])


def postings(kind: str) -> list[Posting]:
    return list(Posting.objects.filter(kind=kind).order_by("pk"))


def alerts() -> list[str]:
    return sorted(Alert.objects.filter(resolved_at=None).values_list("kind", flat=True))


def letters(made: Organization) -> list[str]:
    return sorted(Letter.objects.of(made).values_list("kind", flat=True))


def at_once(count: int, does: Callable[[], Any]) -> list[Any]:
    """Do it in so many threads, all beginning together; what each gave, or the exception that it raised."""
    barrier = threading.Barrier(count)

    def one() -> Any:
        barrier.wait(30)
        try:
            return does()
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(one) for _ in range(count)]
        return [each.exception() or each.result() for each in asked]


def prove(made: Organization) -> None:
    """The wallet's cached balance is the sum of its entries, and what came in went somewhere."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(nanos), 0) FROM billing_entry JOIN billing_account AS account"
            " ON account.id = account_id WHERE kind = 'wallet' AND organization_id = %s",
            [made.pk],
        )
        assert int(cursor.fetchone()[0]) == balance(made)
        cursor.execute("SELECT coalesce(sum(nanos), 0) FROM billing_entry")
        assert int(cursor.fetchone()[0]) == 0
