"""Freezing and thawing an organization: what changes in the books, who hears of it, what the gate knows."""

from __future__ import annotations

import pytest

from accounts.models import AuditEntry
from aggregator.lib import kv
from billing import freezing, gate, letters, plans
from billing.core.budgets import wallet_account
from billing.models import Letter, Wallet
from tests.billing import books

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def organization():
    return books.make_organization()


def test_a_freeze_raises_the_version_of_the_terms_and_is_audited(organization):
    assert freezing.freeze(organization.pk, "dispute", by="stripe", note="dp_1")

    wallet, terms = Wallet.objects.of(organization).get(), plans.terms(organization.pk)
    assert (terms.frozen, terms.version) == ("dispute", 2)
    assert (wallet.frozen_because, wallet.frozen_at is not None) == ("dispute", True)
    entry = AuditEntry.objects.of(organization).get(verb="organization.frozen")
    assert entry.actor == "system:stripe"
    assert entry.detail == {"because": "dispute", "note": "dp_1", "terms_version": 2}


def test_freezing_again_for_the_same_reason_changes_nothing(organization):
    freezing.freeze(organization.pk, "unpaid", by="till")

    assert not freezing.freeze(organization.pk, "unpaid", by="till")
    assert plans.terms(organization.pk).version == 2
    assert Letter.unscoped.count() == 1


def test_an_organization_is_thawed_when_no_reason_is_left(organization):
    freezing.freeze(organization.pk, "dispute", by="till")
    since = Wallet.objects.of(organization).get().frozen_at
    freezing.freeze(organization.pk, "unpaid", by="till")

    assert freezing.thaw(organization.pk, "dispute", by="till")
    assert not freezing.thaw(organization.pk, "operator", by="till")
    wallet = Wallet.objects.of(organization).get()
    assert (wallet.frozen_because, wallet.frozen_at) == ("unpaid", since)

    assert freezing.thaw(organization.pk, "unpaid", by="till")
    wallet = Wallet.objects.of(organization).get()
    assert (wallet.frozen_because, wallet.frozen_at, wallet.terms_version) == ("", None, 5)
    assert list(Letter.unscoped.order_by("created_at").values_list("kind", flat=True)) == [
        "frozen",
        "frozen",
        "thawed",
    ]


def test_a_reason_that_is_none_is_refused(organization):
    with pytest.raises(ValueError, match="no reason"):
        freezing.freeze(organization.pk, "mood", by="till")


def test_the_letters_say_why_and_what_to_do(organization, mailoutbox):
    freezing.freeze(organization.pk, "unpaid", by="till")
    freezing.thaw(organization.pk, "unpaid", by="till")
    for letter in letters.waiting():
        Letter.unscoped.filter(pk=letter).update(to=["ada@acme.test"])
        letters.send(letter)

    frozen, thawed = mailoutbox
    assert frozen.subject == "Acme is suspended"
    assert "An invoice is overdue. Pay it on the billing page" in frozen.body
    assert thawed.subject == "Acme may call again"


def test_the_gate_has_the_new_version_at_once(organization):
    shard = kv.shard(organization.public_id)
    assert gate.open_epoch(shard, gate.begin(shard)) == []
    gate.reload(organization.public_id)
    key = gate.wallet_key(wallet_account(organization.public_id, organization.pk))
    assert kv.gate().hget(key, "tv") == "1"

    freezing.freeze(organization.pk, "operator", by="till")

    assert kv.gate().hget(key, "tv") == "2"


def test_every_reason_says_what_happened_and_what_to_do():
    for reason, says in plans.FROZEN.items():
        assert plans.why_frozen(reason) == says
        assert says.endswith(".")
    both = plans.why_frozen("dispute,unpaid")
    assert plans.FROZEN["dispute"] in both
    assert plans.FROZEN["unpaid"] in both
