"""When the simulated Stripe runs, what outlives it, and that the real one takes its place."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stripe

from aggregator.embedded import ports, prepared
from aggregator.embedded.stack import Stack
from aggregator.embedded.state import State
from billing.sandbox.__main__ import main
from tests.product import PROJECT

KEY = "sk_test_" + "of-a-test"


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("EMBEDDED", "0", "only runs with EMBEDDED=1"),
        ("STRIPE_SECRET_KEY", "", "needs STRIPE_SECRET_KEY"),
        ("STRIPE_SANDBOX_PORT", "many", "must be a whole number"),
    ],
)
def test_it_refuses_to_start_where_it_should_not(
    setting: str,
    value: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    for name, sound in {"EMBEDDED": "1", "STRIPE_SECRET_KEY": KEY, setting: value}.items():
        monkeypatch.setenv(name, sound)

    assert main() == 1
    assert said in capsys.readouterr().err


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    settings = {"EMBEDDED": "1", "STRIPE_SECRET_KEY": KEY, "STRIPE_SANDBOX_PORT": str(port)}
    started = subprocess.Popen(
        [sys.executable, "-m", "billing.sandbox"],
        cwd=PROJECT,
        env={**os.environ, **settings, "VAR_DIR": str(folder)},
        stdout=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while not ports.answers(port):
        assert started.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    return started


def test_what_it_holds_outlives_a_restart_and_a_kill(tmp_path: Path, request: pytest.FixtureRequest):
    (port,) = ports.free()
    calls = stripe.RequestsClient()
    request.addfinalizer(calls.close)
    client = stripe.StripeClient(KEY, base_addresses={"api": f"http://127.0.0.1:{port}"}, http_client=calls)
    first = _start(tmp_path, port)
    try:
        made = client.v1.customers.create({"email": "pat@example.com"}, {"idempotency_key": "a"})
    finally:
        first.kill()
        first.wait(20)

    second = _start(tmp_path, port)
    try:
        assert client.v1.customers.retrieve(made.id).email == "pat@example.com"
        again = client.v1.customers.create({"email": "pat@example.com"}, {"idempotency_key": "a"})
        assert again.id == made.id
        asked = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        asked.request("GET", "/_sandbox/health")
        assert asked.getresponse().status == 200
        asked.close()
    finally:
        second.terminate()
        second.wait(20)
    assert (tmp_path / "stripe.sqlite3").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("kept", [True, False])
def test_one_that_begins_anew_is_given_its_prices_again(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("STRIPE_SECRET_KEY", raising=False)
    prepared.remember(tmp_path)
    (tmp_path / "demo.json").touch()
    if kept:
        (tmp_path / "stripe.sqlite3").touch()

    Stack(State(tmp_path)).distrust_without_stripe()

    assert prepared.is_current(tmp_path) is kept


@pytest.mark.parametrize("outside", ["", "sk_test_" + "real"])
def test_with_a_key_from_outside_nothing_of_it_is_there(
    outside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STRIPE_SECRET_KEY", outside)
    monkeypatch.delenv("STRIPE_API_BASE", raising=False)
    state = State(tmp_path)
    state.open()
    stack = Stack(state)

    environment = stack.environment(state.secrets())

    assert ("stripe" in stack._own) is (not outside)
    assert environment["STRIPE_SECRET_KEY"].startswith(outside or "sk_test_sandbox")
    assert bool(environment.get("STRIPE_API_BASE")) is (not outside)
    assert bool(stack.stripe_url) is (not outside)
    state.close()
