"""The embedded default as its user meets it: one command, one answer, nothing left behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests import product as products
from tests.desk import Desk
from tests.product import Product

pytestmark = pytest.mark.xdist_group("product")


@pytest.fixture(scope="module")
def once() -> tuple[Path, subprocess.CompletedProcess[str]]:
    """What `deploy/dev --once` says on a folder that it has never seen."""
    return products.first_start()


def _pids(product: Product, words: str) -> list[int]:
    return [pid for pid, command in products.processes_of(product.var).items() if words in command]


def _await(product: Product, path: str, *, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            if httpx.get(product.base_url + path, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < until, product.log("gateway")
        time.sleep(0.1)


def test_once_answers_and_exits(once: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    var, done = once

    assert done.returncode == 0, done.stdout + done.stderr
    assert "endpoint    sandbox-" in done.stdout
    assert "why         " in done.stdout
    assert "nano-dollars)" in done.stdout
    assert "curl -N http://127.0.0.1:" in done.stdout
    assert f"e-mail      lies in {var / 'mail'}" in done.stdout
    products.await_nothing(var)


def test_plans_have_their_prices_at_the_simulated_stripe(
    once: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    with contextlib.closing(sqlite3.connect(once[0] / "stripe.sqlite3")) as kept:
        bodies = [
            json.loads(body) for (body,) in kept.execute("SELECT body FROM things WHERE object = 'price'")
        ]

    assert {(price["lookup_key"], price["unit_amount"]) for price in bodies} == {
        ("plan_pro_monthly", 999),
        ("plan_business_monthly", 9900),
    }


def test_dev_json_says_how_to_reach_it(once: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    facts = json.loads((once[0] / "dev.json").read_text())

    assert facts["api_base"] == facts["base_url"] + "/api/v1"
    assert facts["api_key"].startswith("fl_live_")
    assert facts["management_key"].startswith("fl_mgmt_")
    assert facts["email"] == "demo@fairlead.invalid"
    assert facts["password"]


@pytest.mark.last
def test_a_killed_product_leaves_nothing_running(product: Product, desk: Desk) -> None:
    desk.close()  # no part of the product, though it knows its settings
    assert len(products.processes_of(product.var)) > 5

    product.process.kill()

    product.process.wait(60)
    products.await_nothing(product.var, seconds=60)


def test_a_killed_gateway_is_replaced_with_its_workers(product: Product) -> None:
    before = _pids(product, "gunicorn")
    master = products.eldest(before)

    os.kill(master, signal.SIGKILL)
    until = time.monotonic() + 60
    while set(_pids(product, "gunicorn")) & set(before):
        assert time.monotonic() < until
        time.sleep(0.05)

    _await(product, "/health/ready")
    assert "gateway ended by itself (SIGKILL)" in product.var.with_suffix(".out").read_text()


def test_a_killed_worker_is_replaced_with_its_schedule(product: Product) -> None:
    before = _pids(product, "celery")
    main = products.eldest(before)

    os.kill(main, signal.SIGKILL)

    until = time.monotonic() + 60
    while set(_pids(product, "celery")) & set(before) or len(_pids(product, "celery")) < len(before):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_seeding_again_keeps_the_keys_and_the_password(product: Product) -> None:
    before = (product.var / "demo.json").read_text()

    product.manage("seed")

    assert (product.var / "demo.json").read_text() == before


def test_seeding_replaces_what_was_lost(product: Product) -> None:
    demo = product.var / "demo.json"
    before = demo.read_text()
    demo.unlink()

    product.manage("seed")

    made = json.loads(demo.read_text())
    demo.write_text(before)
    assert made["api_key"] != product.api_key
    key = httpx.get(
        f"{product.api_base}/key", headers={"Authorization": f"Bearer {made['api_key']}"}, trust_env=False
    )
    assert key.status_code == 200, key.text
    product.manage("seed")


def test_the_seed_refuses_to_run_in_production(product: Product) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "seed", "--skip-checks"],
        cwd=products.PROJECT,
        env={**os.environ, **product.environment, "EMBEDDED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "only where EMBEDDED is on" in done.stderr


def test_the_gateway_refuses_contradictory_settings(product: Product) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", "aggregator.asgi:application"],
        cwd=products.PROJECT,
        env={**os.environ, **product.environment, "EMBEDDED": "0", "DEBUG": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode != 0
    assert "fairlead.E001" in done.stderr + done.stdout


def test_no_header_names_the_server(product: Product) -> None:
    host = product.base_url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("GET", "/health/ready")

    headers = {name.lower() for name, _ in connection.getresponse().getheaders()}

    connection.close()
    assert "server" not in headers
    assert "x-powered-by" not in headers
