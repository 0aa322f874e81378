"""What each ending costs, a test for each: the answer, the record, the ledger and the provider's own bill.

A worker that is killed and a stop that runs out of time have their own files.
"""

from __future__ import annotations

import socket
import time

import pytest

from billing.core.money import parse_usd
from tests.routing.gateway.caller import HELLO, error_of
from tests.routing.gateway.test_clients_that_leave import left_call
from tests.routing.gateway.test_strange_answers import House, chunk, run
from tests.routing.gateway.test_workers_that_are_killed import workers
from tests.workers import await_listed

product = pytest.mark.xdist_group("gateway")
both = pytest.mark.parametrize("streamed", [False, True])


def the_one(caller, desk):
    """The one generation; the ledger and the wallet say what it says, and nothing is held any more."""
    (row,) = desk.await_generations(caller.organization, 1, posted=True)
    charge, base, loss = row["charge_nanos"], row["base_nanos"], row["loss_nanos"]
    wanted = {
        "wallet": -charge,
        "provider_cost": base + loss,
        "markup_revenue": charge - base,
        "loss": -loss,
    }
    booked = [each["entries"] for each in desk.postings(caller.organization) if each["kind"] == "usage"]
    assert booked == ([found] if (found := {name: n for name, n in wanted.items() if n}) else [])
    wallet = desk.await_no_holds(caller.organization)
    assert wallet.funds == 10 * 10**9 - charge == wallet.credit - wallet.spent
    return row


def asked(caller, model, streamed, **fields):
    """The usage that the customer is shown."""
    if streamed:
        return caller.stream(model, **fields).usage
    return caller.chat(model, **fields).json()["usage"]


def billed(sandbox, row):
    """The provider's own bill of this call, in nanos."""
    (call,) = sandbox.bill(id=row["upstream_id"])["calls"]
    return parse_usd(call["cost_usd"])


def is_free(row, *, error_type, loss):
    assert (row["status"], row["error_type"]) == ("failed", error_type)
    assert row["charge_nanos"] == row["base_nanos"] == 0 and (row["loss_nanos"] > 0) == loss


@product
@both
def test_normal_with_usage_reported_costs_usage_times_price(caller, desk, sandbox, streamed):
    usage = asked(caller, "sandbox/swallow", streamed, max_tokens=20)
    row = the_one(caller, desk)

    assert row["status"] == "completed" and not row["estimated"]
    assert usage["cost_nanos"] == row["charge_nanos"] == sandbox.charge(row["upstream_id"])
    assert row["base_nanos"] == billed(sandbox, row) and row["loss_nanos"] == 0


@product
@both
def test_normal_without_usage_costs_what_we_count(caller, desk, sandbox, streamed):
    usage = asked(caller, "sandbox/fault-no-usage", streamed)
    row = the_one(caller, desk)

    assert row["status"] == "completed" and row["estimated"]
    assert usage["cost_nanos"] == row["charge_nanos"]
    assert billed(sandbox, row) / 3 <= row["base_nanos"] <= billed(sandbox, row) * 3


@product
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"model": "sandbox/none"}, 404),
        ({"max_tokens": "many"}, 400),
        ({"model": "sandbox/oracle", "max_tokens": 30_000, "n": 16}, 402),
        ({"max_cost": "0.000000001", "max_tokens": 10}, 404),
        ({"plugins": [{"id": "web"}]}, 400),
    ],
)
def test_refused_before_dispatch_costs_nothing(caller, desk, sandbox, fields, status):
    user = caller.organization.public_id
    answer = caller.http.post("/chat/completions", json=caller.body() | {"user": user} | fields)

    assert answer.status_code == status, answer.text
    assert sandbox.calls(user=user)["recent"] == [] and desk.generations(caller.organization) == []
    assert caller.chat().status_code == 200
    the_one(caller, desk)


@product
@both
@pytest.mark.parametrize(
    "model", ["fault-500", "fault-reset", "fault-429", "fault-refuse", "fault-malformed"]
)
def test_all_attempts_failing_before_the_first_token_cost_nothing(caller, desk, sandbox, model, streamed):
    user = caller.organization.public_id
    body = caller.body(f"sandbox/{model}", stream=streamed, user=user)
    answer = caller.http.post("/chat/completions", json=body)

    assert answer.status_code >= 400
    row = the_one(caller, desk)
    is_free(row, error_type=error_of(answer)[1], loss=False)
    assert sandbox.bill(user=user)["total_usd"] == "0"


@product
@both
def test_zero_tokens_and_a_blank_finish_cost_nothing(caller, desk, sandbox, streamed):
    usage = asked(caller, "sandbox/fault-empty", streamed)
    row = the_one(caller, desk)

    is_free(row, error_type="empty", loss=True)
    assert usage["completion_tokens"] == usage["cost_nanos"] == 0
    assert row["loss_nanos"] == billed(sandbox, row)  # it bills the prompt all the same


@product
@pytest.mark.parametrize(
    ("model", "error_type"),
    [
        ("fault-reset-after-3", "provider_unavailable"),
        ("fault-cut", "provider_unavailable"),
        ("fault-error-event", "provider_unavailable"),
        ("fault-hang-after-3", "timeout"),
    ],
)
def test_a_provider_that_dies_stalls_or_errs_after_the_first_token_costs_nothing(
    caller, desk, model, error_type
):
    stream = caller.stream(f"sandbox/{model}")
    row = the_one(caller, desk)

    assert stream.text and not stream.done and stream.finish == "error"
    assert [error["metadata"]["error_type"] for error in stream.errors] == [error_type]
    is_free(row, error_type=error_type, loss=True)


@product
def test_a_client_that_leaves_after_dispatch_pays_until_then(caller, desk, sandbox):
    sandbox.http.post(f"{sandbox.url}/_sandbox/reset")
    with caller.opened("sandbox/harbor") as response:
        blocks = response.iter_raw()
        for _ in range(15):
            next(blocks)
    left_call(sandbox, "harbor")
    row = the_one(caller, desk)

    assert row["status"] == "aborted" and row["estimated"] and row["loss_nanos"] == 0
    assert billed(sandbox, row) / 2 <= row["base_nanos"] <= billed(sandbox, row) * 2


@product
def test_a_client_that_leaves_keeps_to_the_usage_stated_so_far(caller, desk):
    raw = b""
    with caller.opened("sandbox/fault-usage-growing") as response:
        blocks = response.iter_raw()
        while raw.count(b"data: ") < 3:  # a role without usage, and two words with it
            raw += next(blocks)
    row = the_one(caller, desk)

    if row["status"] == "aborted":  # else the whole answer had been sent
        assert not row["estimated"] and 1 <= row["output"] <= 12
    assert row["charge_nanos"] > 0


@product
@both
def test_a_client_that_leaves_before_the_first_token_pays_the_prompt(caller, desk, sandbox, streamed):
    sandbox.http.post(f"{sandbox.url}/_sandbox/reset")
    body = caller.body("sandbox/oracle", stream=streamed, max_tokens=50)
    with pytest.raises(Exception, match="timed out"):
        caller.http.post("/chat/completions", json=body, timeout=0.8)  # it answers after a second and a half
    left_call(sandbox, "oracle")
    row = the_one(caller, desk)

    assert (row["status"], row["output"], row["loss_nanos"]) == ("aborted", 0, 0)
    assert row["input"] > 0 and row["charge_nanos"] > 0


@pytest.mark.django_db(transaction=True)
def test_a_client_that_leaves_before_dispatch_pays_nothing(tmp_path):
    async def work(house: House):
        call = await house.begin(stream=True)
        house.gateway.endings.cancelled(call, None, by_client=True)
        row = await house.row()
        assert (row.status, row.error_type) == ("failed", "left_early")
        assert row.charge_nanos == row.loss_nanos == 0

    run(tmp_path, [chunk()], work)


@pytest.mark.django_db(transaction=True)
def test_a_client_that_leaves_between_two_attempts_pays_nothing(tmp_path):
    """The first has failed, and the second is not sent yet."""

    async def work(house: House):
        call = await house.begin(stream=True)
        attempts = house.gateway.attempts
        await attempts._begin(call)
        attempts._failed(call, TimeoutError())
        house.gateway.endings.cancelled(call, None, by_client=True)
        row = await house.row()
        assert (row.status, row.charge_nanos, row.loss_nanos) == ("failed", 0, 0)

    run(tmp_path, [chunk()], work)


@product
def test_a_reader_that_stalls_pays_as_one_that_leaves(caller, desk):
    name = f"test/flood-{caller.organization.id}"
    flood = {
        "provider": "sandbox-strange",
        "upstream_name": "flood",
        "prices": {"input": "0.2", "output": "0.6"},
    }
    desk.list_models({name: [{**flood, "ttft_ms": 20, "tokens_per_second": 500}]})
    host, port = caller.api_base.removeprefix("http://").removesuffix("/api/v1").split(":")
    request = caller.http.build_request(
        "POST", "/chat/completions", json={"model": name, "messages": HELLO, "stream": True}
    )
    head = f"POST {request.url.path} HTTP/1.1\r\n" + "".join(
        f"{k}: {v}\r\n" for k, v in request.headers.items()
    )
    said, until = b" 404 ", time.monotonic() + 30
    while said == b" 404 " and time.monotonic() < until:  # until the worker that accepts lists the model
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(10)
            connection.connect((host, int(port)))
            connection.sendall(head.encode() + b"\r\n" + request.content)
            said = connection.recv(13, socket.MSG_PEEK)[8:]  # read by nobody
            if said == b" 200 ":
                row = the_one(caller, desk)
    assert said == b" 200 "

    assert (row["status"], row["finish_reason"], row["error_type"]) == ("aborted", "aborted", "")
    assert row["output"] > 0 and row["charge_nanos"] > 0


@pytest.mark.django_db(transaction=True)
def test_a_stop_that_cuts_a_stream_costs_nothing(tmp_path):
    async def work(house: House):
        call = await house.begin(stream=True)
        begun = await house.gateway.attempts.stream(call)
        house.gateway.endings.cancelled(call, begun.reader, by_client=False)
        begun.response.release()
        row = await house.row()
        assert (row.status, row.error_type, row.charge_nanos) == ("failed", "shutdown", 0)
        assert row.loss_nanos > 0

    run(tmp_path, [chunk(), chunk("never")], work, pause=0.2)


@product
@both
def test_max_tokens_reached_is_a_normal_end(caller, desk, sandbox, streamed):
    usage = asked(caller, "sandbox/swallow", streamed, max_tokens=3)
    row = the_one(caller, desk)

    assert (row["status"], row["finish_reason"], row["output"]) == ("completed", "length", 3)
    assert usage["cost_nanos"] == row["charge_nanos"] == sandbox.charge(row["upstream_id"])


@product
@both
def test_an_answer_longer_than_allowed_costs_what_was_held(caller, desk, sandbox, streamed):
    """It heeds no `max_tokens`: what the hold does not cover is our loss."""
    usage = asked(caller, "sandbox/fault-too-long", streamed, max_tokens=1)
    row = the_one(caller, desk)

    assert (row["status"], row["output"]) == ("completed", 12)
    assert usage["cost_nanos"] == row["charge_nanos"] < sandbox.charge(row["upstream_id"])
    assert row["decision"]["capped_at_nanos"] == row["charge_nanos"]
    assert row["base_nanos"] + row["loss_nanos"] == billed(sandbox, row) and row["loss_nanos"] > 0


@product
def test_a_price_that_changes_while_a_call_runs_is_not_its_price(running, caller, desk, sandbox):
    """Nor does it matter that its model is taken off the list meanwhile."""
    name = f"test/frozen-{caller.organization.id}"
    endpoint = {
        "provider": "sandbox-thrift",
        "upstream_name": "harbor",
        "ttft_ms": 900,
        "tokens_per_second": 45,
    }
    desk.list_models({name: [{**endpoint, "prices": {"input": "0.25", "output": "0.80"}}]})
    await_listed(running.api_base, workers(running), name)
    raw = b""
    with caller.opened(name, max_tokens=100) as response:
        for block in response.iter_raw():
            if not raw:
                desk.change_catalog(
                    f"sandbox-thrift:{name}", prices={"input": "90", "output": "90"}, retire=True
                )
            raw += block
    row = the_one(caller, desk)

    assert raw.endswith(b"data: [DONE]\n\n") and row["status"] == "completed"
    assert row["charge_nanos"] == sandbox.charge(row["upstream_id"]) > 0
    until = time.monotonic() + 30
    while (answer := caller.chat(name, max_tokens=1)).status_code == 200:
        assert time.monotonic() < until, "it is sold on"
        time.sleep(0.1)
    assert error_of(answer)[0] == 404


@product
def test_the_books_agree_after_every_ending(desk):
    assert desk.breaches() == []
