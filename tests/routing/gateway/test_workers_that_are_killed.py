"""A gateway worker that dies takes nothing with it: its spool is replayed, its holds run out."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.product import processes_of
from tests.routing.gateway.caller import Caller

pytestmark = pytest.mark.xdist_group("gateway")


def workers(product):
    """The processes below gunicorn's master, which is their parent."""
    ours = {pid for pid, command in processes_of(product.var).items() if "gunicorn" in command}
    return {pid for pid in ours if parent(pid) in ours}


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def await_workers(product, count, *, without):
    until = time.monotonic() + 40
    while time.monotonic() < until:
        fresh = workers(product) - without
        if len(fresh) == count:
            answers = 0
            for _ in range(10):
                try:
                    answers += (
                        httpx.get(f"{product.base_url}/health/ready", trust_env=False).status_code == 200
                    )
                except httpx.HTTPError:
                    break
            if answers == 10:
                return
        time.sleep(0.1)
    raise AssertionError("the workers did not come back")


def swept_by_calls(caller, desk):
    """Leases that are over are swept by the next call. How many were served until then."""
    served, until = 0, time.monotonic() + 30
    while not served or desk.wallet(caller.organization).holds:
        assert time.monotonic() < until, desk.wallet(caller.organization)
        served += caller.chat(max_tokens=1).status_code == 200
        time.sleep(0.1)
    return served


def test_killed_in_mid_stream(running, desk):
    organization = desk.open(usd="10")
    text, public_id = desk.key(organization)
    callers = [Caller(running.api_base, text, key_id=public_id, organization=organization) for _ in range(6)]
    settled = sum(caller.chat(max_tokens=4).json()["usage"]["cost_nanos"] for caller in callers)
    streams, begun = [], threading.Barrier(7)

    def follow(caller):
        raw = b""
        try:
            with caller.opened("sandbox/harbor") as response:
                blocks = response.iter_raw()
                raw += next(blocks)
                begun.wait(20)
                for block in blocks:
                    raw += block
        except httpx.HTTPError:
            pass
        streams.append(raw)

    threads = [threading.Thread(target=follow, args=(caller,)) for caller in callers]
    for thread in threads:
        thread.start()
    begun.wait(20)
    killed = workers(running)
    assert len(killed) == 2
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    for thread in threads:
        thread.join(20)
    await_workers(running, 2, without=killed)

    assert len(streams) == 6 and all(b"data: " in raw and b"[DONE]" not in raw for raw in streams)
    rows = desk.await_generations(organization, 12, seconds=20, posted=True)
    void = [row for row in rows if row["status"] == "void"]
    assert len(void) == 6
    assert {(row["charge_nanos"], row["error_type"]) for row in void} == {(0, "process_lost")}
    with callers[0] as caller:
        assert caller.chat(max_tokens=1).status_code == 200
        time.sleep(3)  # the leases of the dead run out, and the next call sweeps them
        served = 1 + swept_by_calls(caller, desk)
    rows = desk.await_generations(organization, 12 + served, posted=True)
    wallet = desk.await_no_holds(organization)
    assert settled == sum(row["charge_nanos"] for row in rows[:6])
    charged = sum(row["charge_nanos"] for row in rows)
    assert wallet.funds == 10 * 10**9 - charged == wallet.credit - wallet.spent
    assert desk.breaches() == []
    for caller in callers:
        caller.http.close()


def test_killed_between_the_last_byte_and_postgresql(running, caller, desk):
    """Every answer that arrived whole is charged once, whatever becomes of its worker."""
    answers = []
    over = threading.Event()

    def work():
        with httpx.Client(trust_env=False, timeout=20) as client:
            while not over.is_set():
                try:
                    answers.append(
                        client.post(
                            f"{caller.api_base}/chat/completions",
                            json=caller.body(max_tokens=2),
                            headers={"Authorization": f"Bearer {caller.text}"},
                        )
                    )
                except httpx.HTTPError:
                    time.sleep(0.05)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.7)
    killed = workers(running)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
    await_workers(running, 2, without=killed)
    over.set()
    for thread in threads:
        thread.join()

    whole = {answer.json()["id"]: answer for answer in answers if answer.status_code == 200}
    assert len(whole) > 20
    until = time.monotonic() + 60
    while whole.keys() - (rows := {row["id"]: row for row in desk.generations(caller.organization)}).keys():
        assert time.monotonic() < until, "what was delivered is not charged"
        time.sleep(0.1)
    for generation_id, answer in whole.items():
        assert rows[generation_id]["charge_nanos"] == answer.json()["usage"]["cost_nanos"]
    for generation_id in rows.keys() - whole.keys():
        assert rows[generation_id]["status"] in ("void", "completed", "aborted", "failed")
    time.sleep(3)
    swept_by_calls(caller, desk)
    until = time.monotonic() + 60
    while (wallet := desk.await_no_holds(caller.organization)).credit - wallet.spent != wallet.funds:
        assert time.monotonic() < until, wallet
        time.sleep(0.05)
    assert desk.breaches() == []
