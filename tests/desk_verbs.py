"""What the desk can do, inside the process that has the running product's settings."""

from __future__ import annotations

import json
import uuid
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction

from accounts import keys, log_keys, members, privacy
from accounts.core import roles
from accounts.core.principal import DataPolicy
from accounts.models import Key, LogKey, Organization, User
from aggregator.lib import clock, seal
from billing import freezing, gate, plans, posting, prices, reconcile, thresholds, wallets
from billing import limits as billing_limits
from billing.core import generation
from billing.core.budgets import wallet_account
from billing.core.money import parse_usd
from billing.models import BudgetAlert
from routing import log_proofs, request_logs, snapshot
from routing.models import Endpoint, Model, Provider, RequestLog


def open(*, slug: str, usd: str, plan: str) -> dict[str, Any]:
    organization = Organization.objects.create(slug=slug, name=slug)
    wallets.open_wallet(organization.pk)
    if plan != "free":
        plans.set_plan(slug, plan)
    if parse_usd(usd):
        wallets.grant(slug, parse_usd(usd))
    return {"id": organization.pk, "public_id": organization.public_id, "slug": slug}


def key(*, organization: int, member: str, limits: dict[str, Any]) -> tuple[str, str]:
    owner = Organization.objects.get(pk=organization)
    by: User | str = "test"
    if member:
        by, is_new = User.objects.get_or_create(email=member)
        if is_new:
            members.add(owner, by, roles.MEMBER)
    made, text = keys.create(owner, name="test", by=by, **_times(limits))
    return text, made.public_id


def set_budget(*, organization: int, said: dict[str, Any]) -> str:
    owner = Organization.objects.get(pk=organization)
    if "member" in said:
        said = said | {"member": User.objects.get(email=said["member"])}
    return billing_limits.set_budget(owner, **said, by="test").public_id


def change_budget(*, organization: int, budget: str, limit_nanos: int | None) -> None:
    found = billing_limits.find(organization, budget)
    assert found is not None
    if limit_nanos is None:
        billing_limits.delete(found, by="test")
    else:
        billing_limits.change(found, limit_nanos=limit_nanos, by="test")


def change(*, key: str, changes: dict[str, Any]) -> None:
    keys.update(_key(key), by="test", **_times(changes))


def verb(*, key: str, verb: str) -> None:
    getattr(keys, verb)(_key(key), by="test")


def rotate(*, key: str, overlap: float) -> str:
    return keys.rotate(_key(key), by="test", overlap=timedelta(seconds=overlap))


def plan(*, slug: str, plan: str, markup: str | None, credit_limit: str | None) -> None:
    agreed = plans.Agreement()
    if markup is not None:
        agreed["markup"] = Decimal(markup)
    if credit_limit is not None:
        agreed["credit_limit_nanos"] = parse_usd(credit_limit)
    plans.set_plan(slug, plan, **agreed)


def data_policy(*, organization: int, policy: dict[str, Any]) -> None:
    wanted = {name: frozenset(said) if isinstance(said, list) else said for name, said in policy.items()}
    privacy.set_policy(Organization.objects.get(pk=organization), DataPolicy(**wanted), by="test")


def freeze(*, organization: int, because: str) -> None:
    freezing.freeze(organization, because, by="test")


def thaw(*, organization: int, because: str) -> None:
    freezing.thaw(organization, because, by="test")


def grant(*, slug: str, usd: str) -> None:
    wallets.grant(slug, parse_usd(usd))


def wallet(*, organization: int, public_id: str) -> dict[str, Any]:
    view = gate.look(wallet_account(public_id, organization))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT balance_nanos, coalesce((SELECT sum(charge_nanos) FROM generations"
            " WHERE organization_id = %(id)s AND posting_id IS NULL), 0)"
            " FROM billing_wallet WHERE organization_id = %(id)s",
            {"id": organization},
        )
        balance, unposted = map(int, cursor.fetchone())
    seen = (None, 0, 0, 0) if view is None else (view.credit, view.spent, view.held, view.holds)
    names = ("credit", "spent", "held", "holds")
    return {"balance": balance, "unposted": unposted, **dict(zip(names, seen, strict=True))}


def generations(*, organization: int) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM generations WHERE organization_id = %s ORDER BY id", [organization])
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    for row in rows:
        row |= {"id": generation.public_id(row["id"])}
        row |= {name: json.loads(row[name]) for name in ("parts", "decision")}
    return rows


def post() -> None:
    """As the job that the timetable has for every second, which may be at it too."""
    posting.post_generations()


def postings(*, organization: int) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT posting.id, posting.kind, account.kind, sum(entry.nanos)::bigint"
            " FROM billing_posting posting JOIN billing_entry entry ON entry.posting_id = posting.id"
            " JOIN billing_account account ON account.id = entry.account_id"
            " WHERE posting.organization_id = %s GROUP BY 1, 2, 3 ORDER BY 1",
            [organization],
        )
        found: dict[int, dict[str, Any]] = {}
        for posting_id, kind, account, nanos in cursor.fetchall():
            found.setdefault(posting_id, {"id": posting_id, "kind": kind, "entries": {}})["entries"][
                account
            ] = nanos
    return list(found.values())


def list_models(*, models: dict[str, list[dict[str, Any]]]) -> None:
    """{model: [{provider, upstream_name, prices, ttft_ms, tokens_per_second}]}, served at once.

    A provider with a `base_url` is called there, with the key of its `env_prefix`; else it is the sandbox's.
    """
    with transaction.atomic():
        for slug, endpoints in models.items():
            model = Model.objects.create(
                slug=slug,
                name=slug,
                context_length=64_000,
                max_output=8192,
                model_class="standard",
                released=date(2026, 1, 1),
            )
            for said in endpoints:
                base_url, prefix = said.pop("base_url", ""), said.pop("env_prefix", "")
                name, stated = said.pop("provider"), said.pop("prices")
                provider, _ = Provider.objects.get_or_create(
                    slug=name,
                    defaults={
                        "name": name,
                        "sandbox": not prefix,
                        "base_url": base_url,
                        "env_prefix": prefix,
                    },
                )
                Endpoint.objects.create(provider=provider, model=model, max_output=8192, **said)
                prices.record(f"{name}:{slug}", stated, source="test")
        snapshot.bump()


def offer_in_auto(*, models: list[str]) -> None:
    with transaction.atomic():
        Model.objects.filter(slug__in=models).update(auto=True)
        snapshot.bump()


def retire_models(*, models: list[str]) -> None:
    with transaction.atomic():
        Model.objects.filter(slug__in=models).update(retired=True)
        snapshot.bump()


def change_catalog(*, endpoint: str, stated: dict[str, str], retire: bool) -> None:
    with transaction.atomic():
        prices.record(endpoint, stated, source="test")
        Model.objects.filter(slug=endpoint.partition(":")[2]).update(retired=retire)
        snapshot.bump()


def exposed(*, key: str) -> bool:
    return _key(key).exposed_at is not None


def breaches() -> list[str]:
    return [f"{found.name}: {'; '.join(found.examples)}" for found in reconcile.check() if not found.holds]


def _key(public_id: str) -> Key:
    return Key.unscoped.select_related("organization").get(public_id=public_id)


def _times(values: dict[str, Any]) -> dict[str, Any]:
    seconds = values.pop("expires_in", None)
    return values if seconds is None else {**values, "expires_at": clock.now() + timedelta(seconds=seconds)}


def budget_alerts(*, organization: int) -> list[int]:
    """The percents that people were told of, after a look of the job."""
    thresholds.look(None)
    return sorted(BudgetAlert.objects.of(organization).values_list("percent", flat=True))


def log_requests(*, organization: int, rules: dict[str, Any]) -> None:
    if rules.get("keys") is not None:
        rules["keys"] = frozenset(_key(public_id).pk for public_id in rules["keys"])
    wanted = privacy.LogRules(**{"on": True, **rules})
    privacy.set_logging(Organization.objects.get(pk=organization), wanted, by="test")


def request_log(*, organization: int, generation_id: str) -> dict[str, Any] | None:
    call = generation.parse_public_id(generation_id)
    assert call is not None
    content = request_logs.read(Organization.objects.get(pk=organization), call, by="test")
    if content is None:
        return None
    sides = {"request": content.request, "reply": content.reply}
    return {
        name: None if side is None else {"text": side.text(), "size": side.size, "cut": side.cut}
        for name, side in sides.items()
    }


def delete_request_logs(*, organization: int) -> dict[str, Any]:
    owner = Organization.objects.get(pk=organization)
    return request_logs.as_evidence(request_logs.delete_everything(owner, by="test"), owner)


def sealed_logs(*, organization: int) -> list[list[str]]:
    rows = RequestLog.objects.of(organization).order_by("pk")
    return [[str(row.pk), bytes(row.sealed).hex()] for row in rows]


def opens(*, organization: int, row: list[str]) -> bool:
    owner = Organization.objects.get(pk=organization)
    for key in LogKey.objects.of(organization):
        copied = RequestLog(pk=uuid.UUID(row[0]), log_key=key, sealed=bytes.fromhex(row[1]))
        try:
            request_logs.unsealed(copied, owner.public_id)
        except (log_keys.KeyLost, seal.Unopened):
            continue
        return True
    return False


def check_request_logs() -> list[str]:
    return log_proofs.check().problems


def where_it_stands(*, text: str) -> list[str]:
    wanted, found = text.encode(), []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND schemaname NOT LIKE 'pg_temp%'"
        )
        for (table,) in cursor.fetchall():
            with cursor.copy(f"COPY (SELECT * FROM {table}) TO STDOUT") as rows:
                whole = b"".join(bytes(row) for row in rows)
            if wanted in whole or wanted.hex().encode() in whole:
                found.append(table)
    return found
