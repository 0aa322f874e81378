"""Calls are logged for who asked for it, sealed before they are written, and gone when they are deleted."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import redis

from tests.routing.gateway.test_keys_in_force import Crowd

pytestmark = pytest.mark.xdist_group("gateway")

CANARY = "a-canary-in-the-harbour-7f3a"
SAID = [{"role": "user", "content": f"Remember {CANARY}"}]


def logged(desk, caller, generation_id):
    """Waits for what is on its way from the worker."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found = desk.request_log(caller.organization, generation_id)
        if found is not None:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{generation_id} was not logged")


def files_with(folder: Path, text: bytes) -> list[str]:
    """Files below a folder that contain the text; PostgreSQL's own are read as tables instead."""
    found = []
    for path in folder.rglob("*"):
        if "postgres" in path.parts or not path.is_file():
            continue
        try:
            if text in path.read_bytes():
                found.append(str(path))
        except OSError:  # it went while we looked: a spool is cut
            continue
    return found


def redis_with(product, text: bytes) -> list[str]:
    found = []
    for number in range(3):
        with redis.Redis.from_url(f"{product.redis_url}/{number}") as client:
            for key in client.scan_iter(count=1000):
                try:
                    value = client.dump(key) or b""
                except redis.RedisError:
                    continue
                if text in key + value:
                    found.append(repr(key))
    return found


def test_nothing_is_logged_unless_it_was_asked_for(caller, desk):
    answer = caller.chat(max_tokens=3)

    time.sleep(0.5)
    assert desk.request_log(caller.organization, answer.headers["x-generation-id"]) is None
    assert desk.sealed_logs(caller.organization) == []


def test_a_plain_call_a_stream_and_a_refused_one_are_logged_as_they_were_on_the_wire(caller, desk):
    desk.log_requests(caller.organization)

    plain = caller.chat(max_tokens=3, messages=SAID)
    streamed = caller.stream(max_tokens=3, messages=SAID)
    failed = caller.chat("sandbox/fault-500", max_tokens=3, messages=SAID)

    found = logged(desk, caller, plain.headers["x-generation-id"])
    assert json.loads(found["request"]["text"]) == caller.body(max_tokens=3, messages=SAID)
    assert found["reply"]["text"] == plain.text and not found["reply"]["cut"]
    stream = logged(desk, caller, streamed.headers["x-generation-id"])
    assert stream["reply"]["text"].encode() == streamed.raw
    refused = logged(desk, caller, failed.json()["error"]["metadata"]["generation_id"])
    assert failed.status_code == 502 and refused["reply"]["text"] == failed.text


def test_what_is_kept_follows_the_rules_with_the_next_call_on_every_worker(caller, desk):
    other, _ = desk.key(caller.organization)
    crowd = Crowd(caller)
    assert crowd.statuses(caller.text) == crowd.statuses(other) == {200}

    desk.log_requests(caller.organization, reply=False, keys=[caller.key_id])
    ids = [answer.headers["x-generation-id"] for answer in crowd.ask(caller.text)]
    crowd.ask(other)
    zdr = caller.chat(max_tokens=2, provider={"zdr": True}).headers["x-generation-id"]

    assert all(logged(desk, caller, each)["reply"] is None for each in ids)
    time.sleep(0.5)
    assert len(desk.sealed_logs(caller.organization)) == len(ids)
    assert desk.request_log(caller.organization, zdr) is None

    desk.log_requests(caller.organization, on=False)
    crowd.ask(caller.text)
    time.sleep(0.5)
    assert len(desk.sealed_logs(caller.organization)) == len(ids)
    crowd.close()


def test_a_long_request_is_cut_and_said_to_be(caller, desk):
    desk.log_requests(caller.organization)
    long = [{"role": "user", "content": "harbour " * 1000}]

    answer = caller.chat(max_tokens=2, messages=long)

    found = logged(desk, caller, answer.headers["x-generation-id"])
    assert found["request"]["cut"] and len(found["request"]["text"]) == 4096
    assert found["request"]["size"] > 8000


def test_a_text_is_nowhere_in_clear_while_it_is_logged_and_cannot_be_read_once_deleted(running, caller, desk):
    desk.log_requests(caller.organization)
    calls = [caller.chat(max_tokens=3, messages=SAID), caller.stream(max_tokens=3, messages=SAID)]
    ids = [each.headers["x-generation-id"] for each in calls]
    assert all(CANARY in logged(desk, caller, each)["request"]["text"] for each in ids)

    def stands():
        return (
            desk.where_it_stands(CANARY),
            files_with(running.var, CANARY.encode()),
            redis_with(running, CANARY.encode()),
        )

    assert stands() == ([], [], [])
    copy = desk.sealed_logs(caller.organization)
    assert len(copy) == 2 and all(desk.opens(caller.organization, row) for row in copy)

    record = desk.delete_request_logs(caller.organization)

    assert (record["what"], record["rows"], record["rows_left"]) == ("everything", 2, 0)
    assert len(record["destroyed_keys"]) == 1
    assert not any(desk.opens(caller.organization, row) for row in copy)
    assert [desk.request_log(caller.organization, each) for each in ids] == [None, None]
    assert stands() == ([], [], [])
    assert desk.check_request_logs() == []
    later = caller.chat(max_tokens=2, messages=SAID)
    time.sleep(0.5)
    assert later.status_code == 200 and desk.sealed_logs(caller.organization) == []
