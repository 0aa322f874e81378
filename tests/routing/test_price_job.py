"""The price job, over PostgreSQL and a sandbox that publishes its prices over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.core import mail
from django.db import DatabaseError, connection, transaction
from django.test import Client

from accounts.models import User
from aggregator.lib import clock
from billing import prices
from billing.models import Price
from routing import price_watch, proposals, sync
from routing.core import pricelist
from routing.models import CatalogVersion, PriceProposal, PriceSource
from tests.routing import sandboxes
from tests.routing.sandboxes import HTTP, Running
from tests.routing.test_catalog_files import GOOD

pytestmark = pytest.mark.django_db(transaction=True)

SLUG = "acme:acme/one"
OF_LIST = GOOD.replace('prices = { input = "1", output = "2" }', 'price_list = "openai/gpt-4o-mini"')
LISTED = {"input": "0.15", "output": "0.6", "cache_read": "0.075"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with sandboxes.running() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, settings) -> Path:
    settings.OPERATOR_EMAILS = ["operator@example.com"]
    settings.PRICE_APPROVAL_PERCENT = Decimal(10)
    (tmp_path / "acme.toml").write_text(OF_LIST)
    return tmp_path


@pytest.fixture
def publisher(folder: Path, sandbox: Running, settings) -> Path:
    """The same provider, simulated, which publishes the prices that it charges."""
    settings.SANDBOX_BASE_URL = sandbox.base_url
    publish(sandbox, **LISTED)
    text = OF_LIST.replace('name = "Acme"', 'name = "Acme"\nsandbox = true\npublishes_prices = "openrouter"')
    (folder / "acme.toml").write_text(text)
    sync.sync(folder)
    return folder


def publish(sandbox: Running, **amounts: str) -> None:
    offer = {
        "provider": "acme",
        "model": "one-2026",
        "ttft_ms": 1,
        "tokens_per_second": 1000,
        "prices": amounts,
    }
    answer = HTTP.post(f"{sandbox.base_url}/_sandbox/conditions", json={"offers": [offer]})
    assert answer.status_code == 200, answer.text


def before(**amounts: str) -> int:
    """An earlier release of the list said this, and it is in force."""
    return prices.record(SLUG, {**LISTED, **amounts}, source="genai-prices 0.0.1")


def in_force() -> dict[str, str]:
    found = prices.in_force(SLUG)
    assert found is not None
    return found[1]


def states() -> list[str]:
    return list(PriceProposal.objects.order_by("id").values_list("state", flat=True))


def test_a_release_that_changes_a_price_a_little_is_applied_by_itself_and_told(folder: Path):
    sync.sync(folder)
    old = before(input="0.145")
    report = price_watch.watch(folder)

    assert report.applied == [SLUG] and in_force() == LISTED
    assert Price.objects.filter(pk=old).exists()
    (message,) = mail.outbox
    assert message.to == ["operator@example.com"] and "input: 0.145 → 0.15 (+3.45 %)" in message.body


def test_small_changes_do_not_add_up_to_a_large_one_that_nobody_approved(folder: Path):
    sync.sync(folder)
    before(input="0.145")
    assert price_watch.watch(folder).applied == [SLUG]
    before(input="0.14")

    assert price_watch.watch(folder).waiting == [SLUG] and in_force()["input"] == "0.14"
    assert "by itself" in PriceProposal.objects.latest("id").reason
    PriceProposal.objects.filter(state="waiting").delete()
    PriceProposal.objects.update(created_at=clock.now() - proposals.BETWEEN)
    assert price_watch.watch(folder).applied == [SLUG]


def test_a_sync_and_a_price_that_applies_itself_wait_for_each_other_in_one_order(folder: Path):
    sync.sync(folder)
    before(input="0.145")
    failed: list[Exception] = []

    def consider() -> None:
        try:
            proposals.consider(SLUG, [proposals.Word("acme itself", LISTED)])
        except DatabaseError as error:
            failed.append(error)
        finally:
            connection.close()

    job = threading.Thread(target=consider)
    with transaction.atomic():
        CatalogVersion.objects.select_for_update().get(pk=1)  # as a sync begins
        job.start()
        job.join(0.3)
        proposals.consider(SLUG, [proposals.Word("acme itself", LISTED)])
    job.join()

    assert failed == [] and states() == ["applied"]


def test_a_price_of_the_list_that_we_could_not_charge_by_stops_nobody_else(folder: Path, monkeypatch):
    monkeypatch.setattr(pricelist, "_text", lambda kind, amount: "0.1234567890123")

    assert "12 decimal places" in sync.sync(folder).refused[0]
    before()
    assert price_watch.watch(folder).applied == [] and in_force() == LISTED


def test_a_difference_of_one_per_cent_is_nothing(folder: Path):
    sync.sync(folder)
    before(input="0.151")
    price_watch.watch(folder)

    assert in_force()["input"] == "0.151" and states() == [] and mail.outbox == []


def test_a_release_that_changes_a_price_much_waits_and_is_told_once_however_often_it_is_seen(folder: Path):
    sync.sync(folder)
    before(input="0.05")
    first, second = price_watch.watch(folder), price_watch.watch(folder)

    assert first.waiting == second.waiting == [SLUG]
    assert in_force()["input"] == "0.05" and states() == ["waiting"] and len(mail.outbox) == 1
    assert "1 price for you to decide" in mail.outbox[0].subject


def test_a_sync_does_not_by_pass_the_approval_and_stays_idempotent(folder: Path):
    sync.sync(folder)
    before(input="0.05")
    first, second = sync.sync(folder), sync.sync(folder)

    assert first.changes == second.changes == []
    assert first.waiting == second.waiting and "waits for approval" in first.waiting[0]
    assert in_force()["input"] == "0.05" and states() == ["waiting"]


def test_a_price_that_a_file_states_anew_applies_at_once_and_only_then(folder: Path):
    (folder / "acme.toml").write_text(GOOD)
    sync.sync(folder)
    prices.record(SLUG, {"input": "9", "output": "9"}, source="acme itself, approved")
    assert sync.sync(folder).changes == [] and in_force()["input"] == "9"

    (folder / "acme.toml").write_text(GOOD.replace('input = "1"', 'input = "5"'))
    assert sync.sync(folder).changes == ["price acme:acme/one: 5 / 2 from catalog"]


def test_a_price_back_to_normal_withdraws_what_waits(folder: Path):
    sync.sync(folder)
    before(input="0.05")
    price_watch.watch(folder)
    before(input="0.15")
    price_watch.watch(folder)

    assert states() == ["withdrawn"] and in_force() == LISTED


@pytest.mark.parametrize("amount", ["0", "0.15"])
def test_from_zero_and_to_zero_an_operator_decides(publisher: Path, sandbox: Running, amount: str):
    if amount != "0":
        before(input="0")
    publish(sandbox, **{**LISTED, "input": amount})
    was = in_force()

    assert price_watch.watch(publisher).waiting == [SLUG] and in_force() == was


def test_what_a_provider_publishes_is_applied_where_the_list_says_the_same(publisher: Path, sandbox: Running):
    before(output="0.58")

    assert price_watch.watch(publisher).applied == [SLUG]
    assert in_force()["output"] == "0.6" and Price.objects.latest("id").source == "acme itself"


def test_a_published_price_that_the_list_contradicts_waits(publisher: Path, sandbox: Running):
    publish(sandbox, **{**LISTED, "output": "0.63"})
    report = price_watch.watch(publisher)

    assert report.waiting == [SLUG] and in_force() == LISTED
    assert "states another price" in PriceProposal.objects.get().reason


def test_a_list_that_contradicts_a_confirmed_price_is_noted_once(publisher: Path, sandbox: Running):
    publish(sandbox, **{**LISTED, "output": "0.9"})
    before(output="0.9")
    reports = [price_watch.watch(publisher) for _ in range(2)]

    assert [report.noted for report in reports] == [[SLUG], []]
    assert in_force()["output"] == "0.9" and len(mail.outbox) == 1


def test_a_published_price_beside_one_that_the_file_states_waits(publisher: Path, sandbox: Running):
    text = (publisher / "acme.toml").read_text()
    stated = 'prices = { input = "0.15", output = "0.59", cache_read = "0.075" }'
    (publisher / "acme.toml").write_text(text.replace('price_list = "openai/gpt-4o-mini"', stated))
    sync.sync(publisher)

    assert price_watch.watch(publisher).waiting == [SLUG] and in_force()["output"] == "0.59"


def test_an_approval_writes_one_row_however_often_it_is_pressed(folder: Path):
    sync.sync(folder)
    before(input="0.05")
    price_watch.watch(folder)
    proposal, rows = PriceProposal.objects.get(), Price.objects.count()
    for _ in range(3):
        proposals.approve(proposal.pk, by="user:root@example.com")

    assert Price.objects.count() == rows + 1 and in_force() == LISTED
    price_watch.watch(folder)
    assert states() == ["approved"]


def test_an_approval_is_refused_when_the_price_has_moved_meanwhile(folder: Path):
    sync.sync(folder)
    before(input="0.05")
    price_watch.watch(folder)
    before(input="0.06")

    with pytest.raises(proposals.Moved, match="has changed since"):
        proposals.approve(PriceProposal.objects.get().pk, by="user:root@example.com")
    assert in_force()["input"] == "0.06"
    price_watch.watch(folder)
    assert states() == ["withdrawn", "waiting"]


def test_a_refused_price_is_not_proposed_again(folder: Path):
    sync.sync(folder)
    before(input="0.05")
    price_watch.watch(folder)
    proposals.refuse(
        PriceProposal.objects.get().pk, by="user:root@example.com", reason="A mistake of theirs."
    )
    price_watch.watch(folder)

    assert states() == ["refused"] and in_force()["input"] == "0.05" and len(mail.outbox) == 1


def test_operators_approve_and_refuse_in_the_admin_after_being_asked(folder: Path, client: Client):
    root = User.objects.create_superuser("root@example.com", "a long password 42")
    client.force_login(root)
    sync.sync(folder)
    before(input="0.05")
    price_watch.watch(folder)
    proposal = PriceProposal.objects.get()
    page = "/admin/routing/priceproposal/"
    press = {"action": "approve", "_selected_action": [proposal.pk]}

    assert "+200.00 %" in client.get(page).content.decode()
    assert client.get(f"{page}{proposal.pk}/change/").status_code == 200
    asked = client.post(page, press)
    assert asked.status_code == 200 and "+200.00 %" in asked.content.decode() and states() == ["waiting"]
    for _ in range(2):
        assert client.post(page, {**press, "confirmed": "yes"}).status_code == 302
    proposal.refresh_from_db()
    assert (proposal.state, proposal.decided_by) == ("approved", "user:root@example.com")
    assert in_force() == LISTED
    answer = client.post(
        page, {**press, "action": "refuse", "confirmed": "yes", "reason": "Late."}, follow=True
    )
    assert "is not waiting: it is approved" in answer.content.decode()
    assert client.get("/admin/routing/pricesource/").status_code == 200


def test_who_may_only_look_decides_nothing(folder: Path, client: Client):
    from django.contrib.auth.models import Permission

    looker = User.objects.create_user("look@example.com", "a long password 42", is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_priceproposal"))
    client.force_login(looker)
    sync.sync(folder)
    before(input="0.05")
    price_watch.watch(folder)
    proposal = PriceProposal.objects.get()
    press = {"action": "approve", "_selected_action": [proposal.pk], "confirmed": "yes"}
    client.post("/admin/routing/priceproposal/", press)

    assert states() == ["waiting"]


def test_a_source_that_is_silent_for_a_day_is_told_once_and_takes_no_price_away(publisher: Path, settings):
    settings.SANDBOX_BASE_URL = "http://127.0.0.1:9"
    price_watch.watch(publisher)
    assert mail.outbox == [] and in_force() == LISTED
    PriceSource.objects.filter(name="acme").update(seen_at=clock.now() - timedelta(days=1, minutes=1))
    reports = [price_watch.watch(publisher) for _ in range(2)]

    assert [report.silent for report in reports] == [["acme"], ["acme"]]
    (message,) = mail.outbox
    assert "silent" in message.subject and "acme could not be read" in message.body
    assert PriceSource.objects.get(name="genai-prices").problem == ""
