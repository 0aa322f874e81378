"""The page of data policies: what would remain is told before it is saved, and only some may save it."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.urls import reverse

from accounts import keys, privacy
from accounts.core import roles
from accounts.core.principal import DataPolicy
from accounts.models import AuditEntry, Key, Membership, User
from accounts.models import DataPolicy as PolicyRow
from aggregator.lib.errors import Refusal
from tests.billing import books

pytestmark = pytest.mark.django_db

ALL = ("sandbox-deep", "sandbox-steady", "sandbox-swift", "sandbox-thrift")


@pytest.fixture
def acme(settings):
    settings.SANDBOX_BASE_URL = "http://127.0.0.1:1"
    call_command("sync_catalog", verbosity=0)
    return books.make_organization()


@pytest.fixture
def page(client, acme):
    def of(role):
        user = User.objects.create(email=f"{role}@example.com")
        Membership.objects.create(organization=acme, user=user, role=role)
        client.force_login(user)
        return client

    return of


def ticked(*providers, **fields):
    return {"newcomers": "allowed", "providers": providers, **fields}


def hosts(answer):
    return [row["host"].slug for row in answer.context["hosts"]]


def test_an_owner_sees_what_would_vanish_and_only_then_saves_it(page, acme):
    owner = page(roles.OWNER)
    every = hosts(owner.get(reverse("accounts:privacy")))
    left = [slug for slug in every if slug not in ("sandbox-steady", "sandbox-deep")]

    look = owner.post(
        reverse("accounts:privacy"), {**ticked(*left), "act": "look"}, headers={"HX-Request": "true"}
    )
    assert "<code>sandbox/meridian</code>" in look.content.decode()
    assert privacy.policy(acme.pk) is None

    assert owner.post(reverse("accounts:privacy"), ticked(*left)).status_code == 302
    assert privacy.policy(acme.pk) == DataPolicy(ignore=frozenset({"sandbox-steady", "sandbox-deep"}))
    entry = AuditEntry.objects.of(acme).get(verb="data_policy.changed")
    assert entry.actor == "user:owner@example.com"
    assert entry.detail == {"ignore": [[], ["sandbox-deep", "sandbox-steady"]]}


def test_without_script_the_whole_page_shows_what_would_remain(page, acme):
    owner = page(roles.ADMIN)
    looked = owner.post(reverse("accounts:privacy"), {**ticked("sandbox-swift"), "act": "look"})

    assert "Not saved yet." in looked.content.decode() and privacy.policy(acme.pk) is None


def test_a_policy_that_leaves_nobody_is_not_saved_and_what_was_ticked_is_kept(page, acme):
    answer = page(roles.OWNER).post(
        reverse("accounts:privacy"), ticked(newcomers="refused", zero_retention="on")
    )

    assert answer.status_code == 422 and "leaves no endpoint" in answer.content.decode()
    assert answer.context["form"]["zero_retention"].value() is True
    assert privacy.policy(acme.pk) is None


def test_a_member_reads_the_policy_and_cannot_set_it(page, acme):
    member = page(roles.MEMBER)

    assert member.get(reverse("accounts:privacy")).status_code == 200
    assert member.post(reverse("accounts:privacy"), ticked("sandbox-swift")).status_code == 403
    assert privacy.policy(acme.pk) is None


def test_only_the_chosen_ones_may_serve_and_who_left_the_catalog_stays_named(page, acme):
    privacy.set_policy(acme, DataPolicy(only=frozenset({"gone", "sandbox-swift"})), by="test")

    page(roles.OWNER).post(reverse("accounts:privacy"), ticked("sandbox-thrift", newcomers="refused"))

    assert privacy.policy(acme.pk) == DataPolicy(only=frozenset({"gone", "sandbox-thrift"}))


def test_a_change_raises_the_version_of_every_key_that_lives_and_of_nobody_elses(acme):
    other = books.make_organization("globex")
    ours = [keys.create(acme, name=f"key {n}", by="test")[0] for n in range(3)]
    theirs = keys.create(other, name="theirs", by="test")[0]
    keys.delete(ours[2], by="test")

    assert privacy.set_policy(acme, DataPolicy(no_training=True), by="test")
    assert not privacy.set_policy(acme, DataPolicy(no_training=True), by="test")

    assert list(Key.objects.of(acme).order_by("pk").values_list("version", flat=True)) == [2, 2, 2]
    assert Key.objects.of(other).get(pk=theirs.pk).version == 1
    assert PolicyRow.objects.of(acme).count() == 1


def test_what_no_provider_can_be_called_is_refused(acme):
    for slugs in ({"Not A Slug"}, {f"p{n}" for n in range(201)}):
        with pytest.raises(Refusal):
            privacy.set_policy(acme, DataPolicy(ignore=frozenset(slugs)), by="test")
