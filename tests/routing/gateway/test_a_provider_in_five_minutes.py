"""The catalog's page is followed to the letter: its file, its command, its variable, and then a real call."""

from __future__ import annotations

import asyncio
import json
import re
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from aggregator.lib.threads import in_thread
from billing import plans
from billing.models import Generation
from routing import catalog, snapshot
from routing.attempts import Attempts
from routing.callers import Caller, Callers
from routing.core.live import Live
from routing.dialects.openai_request import read_request
from routing.endings import Endings
from routing.gateway import Gateway
from routing.upstream import Upstream
from tests.billing.test_admission import Customer, running
from tests.routing import sandboxes

PAGE = (catalog.FOLDER / "README.md").read_text()


def example() -> tuple[str, str]:
    """The file that the page shows: its name and its text."""
    named = re.search(r"Write `(\w+\.toml)`", PAGE)
    shown = re.search(r"```toml\n(.+?)```", PAGE, re.DOTALL)
    assert named and shown
    return named[1], re.sub(r"^   ", "", shown[1], flags=re.MULTILINE)


def documented() -> set[str]:
    rows = re.findall(r"^\| (`.+?) \|", PAGE, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_the_page_names_every_field_and_quirk_that_the_catalog_reads_and_no_other():
    read = set(re.findall(r"""fields\.\w+\(\s*"(\w+)\"""", Path(str(catalog.__file__)).read_text()))

    assert documented() == read | catalog.QUIRKS


@pytest.mark.django_db(transaction=True)
def test_who_follows_the_page_has_a_provider_that_answers_and_is_charged_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name, text = example()
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / name).write_text(text)
    call_command("sync_catalog", folder=folder, verbosity=0)
    monkeypatch.setenv("ACME_API_KEY", "a-key-of-ours")

    with sandboxes.running() as sandbox:
        monkeypatch.setenv("ACME_BASE_URL", f"{sandbox.base_url}/sandbox-steady/v1")
        answer, row = asyncio.run(_called(tmp_path, Customer()))
        (billed,) = sandbox.bill.find({})

    assert (answer["model"], answer["provider"]) == ("acme/harbor", "Acme")
    assert answer["choices"][0]["message"]["content"]
    assert (row.status, row.endpoint, row.model) == ("completed", "acme:acme/harbor", "acme/harbor")
    assert Decimal(row.base_nanos).scaleb(-9) == billed.cost > 0  # the page states the prices of that sandbox
    assert row.charge_nanos == answer["usage"]["cost_nanos"]


async def _called(tmp_path: Path, customer: Customer) -> tuple[dict[str, Any], Generation]:
    """One plain call for the page's model, by all of the gateway; the answer and its record."""
    listing = await in_thread(snapshot.read)
    upstream = Upstream()
    async with running(tmp_path / "spool") as (process,):
        endings = Endings(process.admission, process.settlement, Live())
        gateway = Gateway(Callers(), Attempts(upstream, endings), endings, listing)
        terms = await in_thread(plans.terms, customer.organization.pk)
        caller = Caller(b"", customer.principal, terms, time.monotonic())
        asked = {"model": "acme/harbor", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}
        call = await gateway.begin("", caller, read_request(json.dumps(asked).encode()), user_agent="")
        try:
            answer = await gateway.plain(call, lambda: False)
        finally:
            await upstream.close()
        async with asyncio.timeout(60):
            while (row := await in_thread(Generation.unscoped.first)) is None:
                await asyncio.sleep(0.02)
    return json.loads(answer), row
