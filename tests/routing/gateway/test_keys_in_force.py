"""A change of a key is in force with the next request, on every worker, however warm its memory is."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.routing.gateway.caller import HELLO, LIMITS, error_of

pytestmark = pytest.mark.xdist_group("gateway")

CHAT = {"model": "sandbox/instant", "messages": HELLO, "max_tokens": 2}


class Crowd:
    """Many connections, so that every worker serves some, and has the key in its memory."""

    def __init__(self, caller, *, model="sandbox/instant"):
        self.chat = {**CHAT, "model": model}
        self.clients = [httpx.Client(trust_env=False, timeout=20, limits=LIMITS) for _ in range(12)]
        self.url = f"{caller.api_base}/chat/completions"

    def ask(self, text):
        headers = {"Authorization": f"Bearer {text}"}
        return [client.post(self.url, json=self.chat, headers=headers) for client in self.clients]

    def statuses(self, text):
        return {answer.status_code for answer in self.ask(text)}

    def refusals(self, text):
        return {error_of(answer) for answer in self.ask(text)}

    def close(self):
        for client in self.clients:
            client.close()


@pytest.fixture
def crowd(caller):
    made = Crowd(caller)
    assert made.statuses(caller.text) == {200}
    yield made
    made.close()


def test_a_deleted_key_is_refused_at_once(crowd, caller, desk):
    desk.delete(caller.key_id)

    assert crowd.refusals(caller.text) == {(401, "revoked_key")}


def test_a_disabled_key_is_refused_at_once_and_works_again_at_once(crowd, caller, desk):
    desk.disable(caller.key_id)
    assert crowd.refusals(caller.text) == {(401, "disabled_key")}

    desk.enable(caller.key_id)
    assert crowd.statuses(caller.text) == {200}


def test_a_rotated_key_without_overlap_is_refused_at_once(crowd, caller, desk):
    fresh = desk.rotate(caller.key_id, overlap=0)

    assert crowd.refusals(caller.text) == {(401, "revoked_key")}
    assert crowd.statuses(fresh) == {200}


def test_both_texts_work_during_the_overlap_and_the_old_one_not_after(crowd, caller, desk):
    began = time.monotonic()
    fresh = desk.rotate(caller.key_id, overlap=1.5)
    rotated = time.monotonic()
    assert crowd.statuses(caller.text) == {200} or time.monotonic() > began + 1.4
    assert crowd.statuses(fresh) == {200}

    time.sleep(max(0.0, rotated + 1.6 - time.monotonic()))
    assert crowd.refusals(caller.text) == {(401, "revoked_key")}
    assert crowd.statuses(fresh) == {200}


def test_a_key_expires_on_time(crowd, caller, desk):
    began = time.monotonic()
    desk.change(caller.key_id, expires_in=1.5)
    changed = time.monotonic()
    assert crowd.statuses(caller.text) == {200} or time.monotonic() > began + 1.4

    time.sleep(max(0.0, changed + 1.6 - time.monotonic()))
    assert crowd.refusals(caller.text) == {(401, "expired_key")}


def test_allowed_models_are_in_force_at_once(crowd, caller, desk):
    desk.change(caller.key_id, allowed_models=["sandbox/pebble"])

    assert crowd.refusals(caller.text) == {(403, "model_not_allowed")}


def test_a_rate_limit_is_in_force_at_once(crowd, caller, desk):
    desk.change(caller.key_id, requests_per_minute=1)

    assert sorted(answer.status_code for answer in crowd.ask(caller.text)) == [200] + [429] * 11


def test_a_change_over_the_api_is_in_force_at_once(crowd, caller, desk):
    management, _ = desk.key(caller.organization, scope="management")
    headers = {"Authorization": f"Bearer {management}"}

    answer = caller.http.patch(f"/keys/{caller.key_id}", json={"disabled": True}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert crowd.refusals(caller.text) == {(401, "disabled_key")}

    assert caller.http.delete(f"/keys/{caller.key_id}", headers=headers).status_code in (200, 204)
    assert crowd.refusals(caller.text) == {(401, "revoked_key")}
