"""A living worker whose spool was closed by mistake ends, and the next one charges what it had settled."""

from __future__ import annotations

import psycopg
import pytest

from tests.processes.conftest import wait_for

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.long]


def test_a_worker_whose_spool_was_closed_is_replaced_and_nothing_is_lost_or_charged_twice(house):
    caller = house.caller()
    before = house.workers
    listed = house.product.manage("abandon_spool").stdout.splitlines()
    assert len(listed) == 2 and all("its folder is here" in line for line in listed)
    spool = listed[0].partition(":")[0]
    refused = house.product.manage("abandon_spool", spool, "--yes", check=False)
    assert refused.returncode != 0 and "will replay it" in refused.stderr

    with psycopg.connect(house.product.database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM spools WHERE id = %s", [spool])
    for _ in range(20):
        assert caller.chat(max_tokens=1).status_code == 200

    wait_for(lambda: len(house.workers - before) == 1, seconds=120, what="the worker lives on")
    house.await_workers(without=before - house.workers)
    rows = house.desk.await_generations(caller.organization, 20, posted=True, seconds=60)
    assert {row["status"] for row in rows} == {"completed"}
    wallet = house.desk.await_no_holds(caller.organization)
    assert wallet.funds == 10 * 10**9 - sum(row["charge_nanos"] for row in rows)
    wait_for(lambda: house.desk.breaches() == [], what="the books are right again")
