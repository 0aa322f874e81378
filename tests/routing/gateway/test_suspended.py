"""A frozen organization's next call is refused, everywhere; a credit limit lets the balance go below zero."""

from __future__ import annotations

import time

import pytest

from tests.routing.gateway.caller import Caller, error_of
from tests.routing.gateway.test_workers_that_are_killed import workers
from tests.workers import await_listed

pytestmark = pytest.mark.xdist_group("gateway")

FREE = {
    "provider": "sandbox-thrift",
    "upstream_name": "harbor",
    "prices": {"input": "0", "output": "0"},
    "ttft_ms": 1,
    "tokens_per_second": 1000,
}


def ask(caller, model="sandbox/instant"):
    """On a connection of its own, so that any worker may answer."""
    body = caller.body(model, max_tokens=5)
    return caller.http.post("/chat/completions", json=body, headers={"Connection": "close"})


def test_a_frozen_organizations_next_calls_are_refused_by_every_worker_until_it_is_thawed(caller, desk):
    assert {ask(caller).status_code for _ in range(8)} == {200}

    desk.freeze(caller.organization, "dispute")
    refused = [ask(caller) for _ in range(8)]

    assert {error_of(answer) for answer in refused} == {(402, "account_suspended")}
    said = refused[0].json()["error"]
    assert "Withdraw the dispute, or write to us" in said["message"]
    assert said["metadata"]["because"] == ["dispute"]
    assert caller.stream().status == 402
    assert caller.http.get("/credits").status_code == 200  # to see what there is, and why, goes on
    desk.thaw(caller.organization, "dispute")
    time.sleep(0.6)
    assert {ask(caller).status_code for _ in range(8)} == {200}
    assert desk.await_no_holds(caller.organization).held == 0


def test_a_frozen_organization_is_refused_free_models_too(running, caller, desk):
    desk.list_models({"test/gratis": [dict(FREE)]})
    await_listed(running.api_base, workers(running), "test/gratis")
    assert ask(caller, "test/gratis").json()["usage"]["cost_nanos"] == 0

    desk.freeze(caller.organization, "unpaid")

    assert error_of(ask(caller, "test/gratis")) == (402, "account_suspended")


def test_a_call_under_way_ends_though_its_organization_is_frozen(caller, desk):
    with caller.opened("sandbox/oracle", max_tokens=20) as response:
        desk.freeze(caller.organization, "fraud_warning")
        assert response.read().endswith(b"data: [DONE]\n\n")

    (row,) = desk.await_generations(caller.organization, 1)
    assert row["status"] == "completed"


def test_a_credit_limit_is_spent_below_zero_and_no_further(running, desk):
    organization = desk.open(usd="0")
    text, public_id = desk.key(organization)
    with Caller(running.api_base, text, key_id=public_id, organization=organization) as caller:
        assert error_of(ask(caller)) == (402, "insufficient_credits")
        desk.set_plan(organization, "production", markup="0.02", credit_limit="0.0005")
        answers = [caller.chat("sandbox/swallow", max_tokens=50) for _ in range(30)]
        statuses = [answer.status_code for answer in answers]
        charged = sum(answer.json()["usage"]["cost_nanos"] for answer in answers if answer.is_success)

        assert statuses == sorted(statuses)
        assert set(statuses) == {200, 402}
        assert error_of(answers[-1]) == (402, "insufficient_credits")
        desk.await_generations(organization, statuses.count(200), posted=True)
        assert 0 < charged <= 500_000
        assert caller.http.get("/credits").json()["data"]["remaining"] == -charged / 10**9
    assert desk.wallet(organization).balance == -charged
    assert desk.breaches() == []
