"""The one simulated account: its objects, its time and its events, kept in a file or in memory.

`on_event` hears of each event, `on_settled` of each payment intent that was paid.

Objects are plain dicts as the API shows them, but for names that begin with `_`, which are ours. They live in
memory; `flush` writes the changed ones to SQLite, where a restart finds them. Times are whole seconds (Unix).
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from billing.sandbox.refusals import Thing, missing

API_VERSION = "2026-10-28.endive"
DAY = 24 * 60 * 60
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PREFIXES = {
    "account": "acct",
    "balance_transaction": "txn",
    "billing_portal.configuration": "bpc",
    "billing_portal.session": "bps",
    "charge": "ch",
    "checkout.session": "cs_test",
    "customer": "cus",
    "dispute": "dp",
    "event": "evt",
    "invoice": "in",
    "invoice_payment": "inpay",
    "invoiceitem": "ii",
    "item": "li",
    "line_item": "il",
    "payment_intent": "pi",
    "payment_method": "pm",
    "price": "price",
    "product": "prod",
    "radar.early_fraud_warning": "issfr",
    "refund": "re",
    "setup_intent": "seti",
    "subscription": "sub",
    "subscription_item": "si",
    "subscription_schedule": "sub_sched",
    "tax.calculation": "taxcalc",
    "test_helpers.test_clock": "clock",
    "webhook_endpoint": "we",
    "_delivery": "del",
}


def random_id(prefix: str, length: int = 24) -> str:
    return f"{prefix}_{''.join(secrets.choice(_LETTERS) for _ in range(length))}"


class Account:
    """Objects by kind and id. One thread: whoever serves it calls it from its own event loop."""

    def __init__(self, path: Path | str, *, key: str, url: str) -> None:
        self.key = key
        self.url = url
        self.on_event: Callable[[Thing], None] = lambda event: None
        self.on_settled: Callable[[Thing], None] = lambda intent: None
        self._things: dict[str, dict[str, Thing]] = {}
        self._by_id: dict[str, Thing] = {}
        self._unwritten: dict[str, Thing | None] = {}
        self._moment: int | None = None
        self._rank = 0
        self.request: Thing | None = None
        self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._open()

    # Time.

    def now(self, customer: str | None = None) -> int:
        """The account's time, or that of the customer's test clock."""
        clock = self.clock_of(customer)
        if clock is not None:
            return int(clock["frozen_time"])
        if self._moment is not None:
            return self._moment
        settings = self._by_id.get("_settings", {"offset": 0})
        return int(time.time()) + int(settings["offset"])

    def clock_of(self, customer: str | None) -> Thing | None:
        clock_id = self._by_id[customer].get("test_clock") if customer in self._by_id else None
        return self._by_id.get(clock_id) if clock_id else None

    def pretend(self, moment: int | None) -> None:
        """Act as if it were that second; None: act now. For what falls due while time is moved."""
        self._moment = moment

    @property
    def settings(self) -> Thing:
        return self._by_id["_settings"]

    # Objects.

    def add(self, kind: str, thing: Thing, *, customer: str | None = None, fixed_id: str = "") -> Thing:
        """A new object with id, `object`, `created` and `livemode`."""
        found_id = fixed_id or random_id(_PREFIXES.get(kind, kind))
        self._rank += 1
        made = {"id": found_id, "object": kind, "created": self.now(customer), "livemode": False}
        made |= thing | {"_rank": self._rank}
        self._things.setdefault(kind, {})[found_id] = made
        self._by_id[found_id] = made
        return self.changed(made)

    def changed(self, thing: Thing) -> Thing:
        """Every writer says so, or the change is lost with the process."""
        self._unwritten[thing["id"]] = thing
        return thing

    def get(self, kind: str, found_id: str, param: str | None = None) -> Thing:
        """The object itself, to read or to change; `Refused` when there is none."""
        try:
            return self._things[kind][found_id]
        except KeyError:
            raise missing(kind.rpartition(".")[2], found_id, param) from None

    def lookup(self, found_id: object) -> Thing | None:
        return self._by_id.get(found_id) if isinstance(found_id, str) else None

    def find(self, kind: str, **equal: object) -> Iterator[Thing]:
        """The newest first, with these values."""
        for thing in reversed(list(self._things.get(kind, {}).values())):
            if all(thing.get(name) == value for name, value in equal.items()):
                yield thing

    def everything(self) -> list[Thing]:
        """The oldest first."""
        return sorted(self._by_id.values(), key=lambda thing: int(thing["_rank"]))

    def remove(self, thing: Thing) -> None:
        del self._things[thing["object"]][thing["id"]]
        del self._by_id[thing["id"]]
        self._unwritten[thing["id"]] = None

    def reset(self) -> None:
        """An account in which nothing ever happened."""
        for found_id in self._by_id:
            self._unwritten[found_id] = None
        self._things.clear()
        self._by_id.clear()
        self._begin()

    # Events.

    def emit(self, kind: str, thing: Thing, previous: Thing | None = None) -> Thing:
        """Record what happened to an object, as it is at this moment, and tell who listens."""
        data: Thing = {"object": shown(thing)}
        if previous is not None:
            data["previous_attributes"] = previous
        event = {
            "api_version": API_VERSION,
            "data": data,
            "pending_webhooks": 0,
            "request": self.request or {"id": None, "idempotency_key": None},
            "type": kind,
        }
        made = self.add("event", event)
        self.on_event(made)
        return made

    # The file.

    def flush(self) -> None:
        if not self._unwritten:
            return
        self._file.execute("BEGIN")
        for found_id, thing in self._unwritten.items():
            if thing is None:
                self._file.execute("DELETE FROM things WHERE id = ?", (found_id,))
            else:
                self._file.execute(
                    "INSERT INTO things VALUES (?, ?, ?, ?) "
                    "ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                    (found_id, thing["object"], thing["_rank"], json.dumps(thing)),
                )
        self._file.execute("COMMIT")
        self._unwritten.clear()

    def close(self) -> None:
        self.flush()
        self._file.close()

    def _open(self) -> None:
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = NORMAL")
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS things (id TEXT PRIMARY KEY, object TEXT, rank INTEGER, body TEXT)"
        )
        for (body,) in self._file.execute("SELECT body FROM things ORDER BY rank"):
            thing = json.loads(body)
            self._things.setdefault(thing["object"], {})[thing["id"]] = thing
            self._by_id[thing["id"]] = thing
            self._rank = max(self._rank, thing["_rank"])
        self._begin()

    def _begin(self) -> None:
        if "_settings" not in self._by_id:
            self.add("_settings", {"offset": 0, "late_fees": False}, fixed_id="_settings")
            whole = {"business_profile": {"name": "Fairlead"}, "charges_enabled": True, "country": "US"}
            self.add("account", {**whole, "default_currency": "usd", "email": None, "type": "standard"})
        self.flush()


def shown(value: Any) -> Any:
    """A copy of an object as the API tells it: without what is ours."""
    if isinstance(value, dict):
        ours = "object" in value
        return {name: shown(inner) for name, inner in value.items() if not (ours and name.startswith("_"))}
    if isinstance(value, list):
        return [shown(inner) for inner in value]
    return value
