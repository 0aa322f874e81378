"""An operator beside a running product: one process with the product's settings, asked over a pipe.

The tests themselves have settings and databases of their own, so they ask here for what a customer cannot do:
open an organization with an exact amount, look at the ledger and at the gate, check the books.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from tests.product import PROJECT, Product

ANSWER = "ANSWER "


@dataclass(frozen=True)
class Organization:
    id: int
    public_id: str
    slug: str


@dataclass(frozen=True)
class Wallet:
    """Balance in PostgreSQL, what is charged but not posted, and the gate's view (None: not loaded)."""

    balance: int
    unposted: int
    credit: int | None
    spent: int
    held: int
    holds: int

    @property
    def funds(self) -> int:
        return self.balance - self.unposted


class Desk:
    def __init__(self, product: Product, **others: str) -> None:
        """`others` are settings in which it differs from the product: a way around a bad network."""
        settings = {
            **product.environment,
            "DJANGO_SETTINGS_MODULE": "aggregator.settings",
            "STARTING_CREDIT_USD": "0",
            "DATABASE_POOL": "2",
            **others,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.desk"],
            cwd=PROJECT,
            env=settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._count = 0

    def _ask(self, what: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, **arguments}) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                answer = json.loads(line.removeprefix(ANSWER))
                assert "fault" not in answer, answer["fault"]
                return answer["value"]
        raise AssertionError("the desk ended")

    def close(self) -> None:
        """Again is nothing."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def open(self, *, usd: str = "10", plan: str = "free") -> Organization:
        """An organization whose wallet holds exactly `usd`."""
        self._count += 1
        slug = f"org-{self._count}-{time.time_ns() % 10**9}"
        return Organization(**self._ask("open", slug=slug, usd=usd, plan=plan))

    def key(self, organization: Organization, *, member: str = "", **limits: Any) -> tuple[str, str]:
        """(text, public id). `limits` as `accounts.keys.create` takes them; `member` is an address."""
        text, public_id = self._ask("key", organization=organization.id, member=member, limits=limits)
        return text, public_id

    def set_budget(self, organization: Organization, **said: Any) -> str:
        """Its public id. `said` as `billing.limits.set_budget` takes it, a member by address."""
        return str(self._ask("set_budget", organization=organization.id, said=said))

    def budget_alerts(self, organization: Organization) -> list[int]:
        """The percents that people were told of, after a look of the job."""
        return list(self._ask("budget_alerts", organization=organization.id))

    def change_budget(self, organization: Organization, budget: str, limit_nanos: int | None) -> None:
        """None deletes it."""
        self._ask("change_budget", organization=organization.id, budget=budget, limit_nanos=limit_nanos)

    def change(self, key: str, **changes: Any) -> None:
        """`expires_in` in seconds stands for `expires_at`."""
        self._ask("change", key=key, changes=changes)

    def disable(self, key: str) -> None:
        self._ask("verb", key=key, verb="disable")

    def enable(self, key: str) -> None:
        self._ask("verb", key=key, verb="enable")

    def delete(self, key: str) -> None:
        self._ask("verb", key=key, verb="delete")

    def rotate(self, key: str, *, overlap: float) -> str:
        return str(self._ask("rotate", key=key, overlap=overlap))

    def set_plan(
        self,
        organization: Organization,
        plan: str,
        markup: str | None = None,
        credit_limit: str | None = None,
    ) -> None:
        self._ask("plan", slug=organization.slug, plan=plan, markup=markup, credit_limit=credit_limit)

    def data_policy(self, organization: Organization, **policy: Any) -> None:
        """`policy` as `accounts.core.principal.DataPolicy` takes it; lists stand for sets."""
        self._ask("data_policy", organization=organization.id, policy=policy)

    def log_requests(self, organization: Organization, **rules: Any) -> None:
        """`rules` as `accounts.privacy.LogRules` takes them, `keys` by public id; on unless they say no."""
        self._ask("log_requests", organization=organization.id, rules=rules)

    def request_log(self, organization: Organization, generation_id: str) -> dict[str, Any] | None:
        """What was logged of a call: texts, sizes; None where nothing is kept."""
        found: dict[str, Any] | None = self._ask(
            "request_log", organization=organization.id, generation_id=generation_id
        )
        return found

    def delete_request_logs(self, organization: Organization) -> dict[str, Any]:
        """Everything; answers the record of it."""
        record: dict[str, Any] = self._ask("delete_request_logs", organization=organization.id)
        return record

    def sealed_logs(self, organization: Organization) -> list[list[str]]:
        """A copy of the table's rows: id, and what is sealed, in hexadecimal digits."""
        rows: list[list[str]] = self._ask("sealed_logs", organization=organization.id)
        return rows

    def opens(self, organization: Organization, row: list[str]) -> bool:
        """Whether a copied row opens with any key that is left."""
        return bool(self._ask("opens", organization=organization.id, row=row))

    def check_request_logs(self) -> list[str]:
        """What `manage.py check_request_logs` finds."""
        problems: list[str] = self._ask("check_request_logs")
        return problems

    def where_it_stands(self, text: str) -> list[str]:
        """Tables of the database whose rows contain the text, read as COPY writes them."""
        tables: list[str] = self._ask("where_it_stands", text=text)
        return tables

    def freeze(self, organization: Organization, because: str) -> None:
        self._ask("freeze", organization=organization.id, because=because)

    def thaw(self, organization: Organization, because: str) -> None:
        self._ask("thaw", organization=organization.id, because=because)

    def grant(self, organization: Organization, usd: str) -> None:
        self._ask("grant", slug=organization.slug, usd=usd)

    def wallet(self, organization: Organization) -> Wallet:
        return Wallet(**self._ask("wallet", organization=organization.id, public_id=organization.public_id))

    def generations(self, organization: Organization) -> list[dict[str, Any]]:
        """Rows, oldest first; `id` as its public text."""
        rows: list[dict[str, Any]] = self._ask("generations", organization=organization.id)
        return rows

    def postings(self, organization: Organization) -> list[dict[str, Any]]:
        """Each posting with its entries as {account kind: nanos}, oldest first."""
        rows: list[dict[str, Any]] = self._ask("postings", organization=organization.id)
        return rows

    def list_models(self, models: dict[str, list[dict[str, Any]]]) -> None:
        """Models that no catalog file has, each with its endpoints: see `desk_verbs.list_models`."""
        self._ask("list_models", models=models)

    def offer_in_auto(self, models: list[str]) -> None:
        """`auto` may choose these from now on."""
        self._ask("offer_in_auto", models=models)

    def retire_models(self, models: list[str]) -> None:
        self._ask("retire_models", models=models)

    def change_catalog(self, endpoint: str, *, prices: dict[str, str], retire: bool) -> None:
        """Another price for `provider:model`, in force at once, and the model off the list or on it again."""
        self._ask("change_catalog", endpoint=endpoint, stated=prices, retire=retire)

    def exposed(self, key: str) -> bool:
        return bool(self._ask("exposed", key=key))

    def breaches(self) -> list[str]:
        """What `check_ledger` finds broken."""
        found: list[str] = self._ask("breaches")
        return found

    def await_generations(
        self, organization: Organization, count: int, *, posted: bool = False, seconds: float = 60
    ) -> list[dict[str, Any]]:
        """As they come from the spool. `posted` ones are posted here: the job's turn may be a second away."""
        until = time.monotonic() + seconds
        while True:
            if posted:
                self._ask("post")
            rows = self.generations(organization)
            if len(rows) >= count and (not posted or all(row["posting_id"] is not None for row in rows)):
                assert len(rows) == count, rows
                return rows
            assert time.monotonic() < until, f"{len(rows)} of {count} generations: {rows}"
            time.sleep(0.05)

    def await_no_holds(self, organization: Organization, *, seconds: float = 60) -> Wallet:
        until = time.monotonic() + seconds
        while (wallet := self.wallet(organization)).holds or wallet.credit is None:
            assert time.monotonic() < until, wallet
            time.sleep(0.05)
        assert wallet.held == 0
        return wallet


# ── The other end of the pipe ────────────────────────────────────────────────────────────────────


def _serve() -> None:
    import django

    django.setup()
    from django.db import connection

    from tests import desk_verbs

    for line in sys.stdin:
        asked = json.loads(line)
        answer: dict[str, Any]
        try:
            answer = {"value": getattr(desk_verbs, asked.pop("what"))(**asked)}
        except Exception as error:
            answer = {"fault": f"{type(error).__name__}: {error}"}
            print(ANSWER + json.dumps(answer), flush=True)
            raise
        connection.close()
        print(ANSWER + json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    _serve()
