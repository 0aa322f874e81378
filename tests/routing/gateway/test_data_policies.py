"""An organization's data policy is in force with the next call, on every worker, and no request widens it."""

from __future__ import annotations

import time

import pytest

from tests.routing.gateway.caller import error_of
from tests.routing.gateway.test_keys_in_force import Crowd

pytestmark = pytest.mark.xdist_group("gateway")

MODEL = "sandbox/meridian"


def test_a_provider_that_is_taken_out_serves_no_call_any_more_on_any_worker(caller, desk):
    crowd = Crowd(caller, model=MODEL)
    assert crowd.statuses(caller.text) == {200}

    desk.data_policy(caller.organization, ignore=["sandbox-deep"])
    answers = crowd.ask(caller.text)
    assert {answer.headers["x-fairlead-endpoint"] for answer in answers} == {f"sandbox-steady:{MODEL}"}

    desk.data_policy(caller.organization, ignore=["sandbox-deep", "sandbox-steady"])
    assert crowd.refusals(caller.text) == {(404, "no_endpoints")}

    time.sleep(0.6)  # whom a policy refuses is looked up again twice a second at most
    desk.data_policy(caller.organization)
    assert crowd.statuses(caller.text) == {200}
    crowd.close()


def test_a_call_cannot_ask_its_way_past_the_policy_and_is_told_which_rule_it_was(caller, desk):
    desk.data_policy(caller.organization, only=["sandbox-deep"])

    refused = caller.chat(MODEL, provider={"only": ["sandbox-steady"]}, max_tokens=2)
    served = caller.chat(MODEL, show_route=True, max_tokens=2).json()

    assert error_of(refused) == (404, "no_endpoints")
    metadata = refused.json()["error"]["metadata"]
    assert set(metadata["constraints"]) == {"data_policy.only", "provider.only"}
    assert served["provider"] == "Deep (simulated)"
    assert served["route"]["excluded"][0]["reason"].startswith("organization's data policy (only)")
