"""From rows to a Listing: what a gateway worker may call right now, and when to look again.

The rows say what exists; the environment says which providers are on. Every change counts the version in
PostgreSQL and moves a number in Redis, which is all that a worker has to watch.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.db.models import F

from aggregator.lib import clock, kv
from aggregator.lib.env import secret, text
from billing import prices
from billing.core.pricing import Price
from routing.core import listing
from routing.models import CatalogVersion, Endpoint, ManagedKey, Model, Provider

VERSION_KEY = "catalog:version"
COUNTED_KEY = "catalog:counted"
"""The count in PostgreSQL that was last published, so that a missed one is noticed."""
SANDBOX_KEY = "simulated"
"""The sandbox takes any key."""
NO_KEY = "none"
"""What is said to a server that asks for no key."""

_VISIBLE = re.compile(r"[!-~]+")

_log = structlog.get_logger(__name__)
_MOVE = kv.Script(
    """
    local now = tonumber(redis.call('GET', KEYS[1])) or 0
    now = math.max(now + 1, tonumber(ARGV[1]))
    redis.call('SET', KEYS[1], string.format('%d', now))
    return now
    """
)


def version() -> int:
    """What a worker compares with its listing's: one read of Redis, and of PostgreSQL if that is empty."""
    found = kv.gate().get(VERSION_KEY)
    return int(found) if found is not None else publish()


def publish() -> int:
    """Move the number that workers watch: never lower, never left as it was."""
    counted = _counted()
    moved = int(_MOVE.run([VERSION_KEY], [counted]))
    kv.gate().set(COUNTED_KEY, counted)
    return moved


def heal() -> None:
    """Publish again if Redis lost the version, or was away when it changed."""
    if kv.gate().get(COUNTED_KEY) != str(_counted()):
        publish()


def _counted() -> int:
    row = CatalogVersion.objects.filter(pk=1).first()
    return row.number if row else 0


def bump() -> None:
    """Count a change of the catalog, in the caller's transaction; workers hear of it once that commits."""
    _, made = CatalogVersion.objects.get_or_create(pk=1, defaults={"number": 1})
    if not made:
        CatalogVersion.objects.filter(pk=1).update(number=F("number") + 1)
    transaction.on_commit(_publish_or_log)


def load() -> listing.Listing:
    """The rows that are enabled, listed and priced, at providers that are on."""
    return read(version())  # before the rows: if they change meanwhile, the next look shows another version


def read(seen: int = 0) -> listing.Listing:
    """The same from PostgreSQL alone, for a page: it needs no version and no Redis."""
    providers = {
        row.pk: provider
        for row in Provider.objects.filter(enabled=True, retired=False).prefetch_related("keys")
        if (provider := _provider(row, row.keys.all())) is not None
    }
    rows = {row.pk: row for row in Model.objects.filter(enabled=True, retired=False).order_by("slug")}
    models = {row.slug: _model(row) for row in rows.values()}
    moment = clock.now()
    priced = prices.current(moment)
    endpoints: dict[str, list[listing.Endpoint]] = {}
    for row in Endpoint.objects.filter(enabled=True, retired=False).order_by("slug"):
        provider, model, price = providers.get(row.provider_id), rows.get(row.model_id), priced.get(row.slug)
        if provider is None or model is None or price is None:
            continue
        endpoints.setdefault(model.slug, []).append(
            _endpoint(row, provider, models[model.slug], price.at(moment))
        )
    changes = [each.price.next_change(moment) for found in endpoints.values() for each in found]
    until = min(filter(None, [*changes, prices.next_start(moment)]), default=None)
    return listing.Listing(seen, models, {slug: tuple(found) for slug, found in endpoints.items()}, until)


def shown() -> listing.Listing:
    """The same for pages that anybody may ask for often: read anew when the catalog has changed.

    A change is known by its count and by the transaction that wrote it; without a count nothing is kept.
    """
    global _shown
    with connection.cursor() as cursor:
        cursor.execute("SELECT number, xmin::text FROM routing_catalogversion WHERE id = 1")
        state = (cursor.fetchone(), settings.SANDBOX_BASE_URL)
    before, kept = _shown
    if kept is None or state[0] is None or state != before or (kept.until and clock.now() >= kept.until):
        kept = read()
        _shown = state, kept
    return kept


_shown: tuple[object, listing.Listing | None] = None, None


def _endpoint(
    row: Endpoint, provider: listing.Provider, model: listing.Model, price: Price
) -> listing.Endpoint:
    if row.data_policy:
        provider = replace(provider, data_policy=row.data_policy)
    return listing.Endpoint(
        slug=row.slug,
        provider=provider,
        model=model,
        upstream_name=row.upstream_name,
        max_output=row.max_output,
        price=price,
        ttft_seconds=row.ttft_ms / 1000,
        tokens_per_second=float(row.tokens_per_second),
        quantization=row.quantization,
        parameters=None if row.parameters is None else frozenset(row.parameters),
        max_context=row.max_context,
    )


def _provider(row: Provider, managed: Iterable[ManagedKey] = ()) -> listing.Provider | None:
    """None when the provider is off: no key in the environment, or no sandbox running."""
    base_url, api_key, keys = _access(row, list(managed))
    if not api_key or (row.sandbox and not base_url):
        return None
    if wrong := _wrong(base_url, api_key, row):
        _log.error("a provider is off: it is not configured rightly", provider=row.slug, problem=wrong)
        return None
    return listing.Provider(
        slug=row.slug,
        name=row.name,
        dialect=row.dialect,
        base_url=base_url.rstrip("/"),
        api_key=api_key,
        quirks=frozenset(row.quirks),
        data_policy=row.data_policy,
        region=row.region,
        keys=keys,
        own_network=row.keyless or (not row.sandbox and _is_near(base_url)),
    )


def _is_near(base_url: str) -> bool:
    """Whether the host is in our own network, as far as its name or address says."""
    host = urlsplit(base_url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".localhost"))


def _access(row: Provider, managed: list[ManagedKey]) -> tuple[str, str, tuple[listing.ManagedKey, ...]]:
    """(base URL, key, managed keys), as the environment has them; an empty one means that it is off."""
    if row.sandbox:
        base_url = f"{settings.SANDBOX_BASE_URL}/{row.slug}/v1" if settings.SANDBOX_BASE_URL else ""
        return base_url, SANDBOX_KEY, ()
    if not row.env_prefix:
        return "", "", ()
    base_url = text(f"{row.env_prefix}_BASE_URL", row.base_url)
    if managed:  # then they alone count
        keys = tuple(key for each in managed if (key := _managed_key(row, each)) is not None)
        return base_url, keys[0].text if keys else "", keys
    api_key = secret(f"{row.env_prefix}_API_KEY", "")
    if not api_key and row.keyless and text(f"{row.env_prefix}_BASE_URL", ""):
        api_key = NO_KEY
    return base_url, api_key, ()


def _managed_key(provider: Provider, row: ManagedKey) -> listing.ManagedKey | None:
    """None when the key is off; what an operator did not mean is logged, without the secret."""
    if not row.enabled:
        return None
    problem = found = ""
    if not row.is_of(provider):
        problem = f"the name does not begin with {provider.env_prefix}_API_KEY"
    else:
        try:
            found = secret(row.environment, "")
            problem = "" if _VISIBLE.fullmatch(found) else "it is empty, or holds what no header can"
        except ImproperlyConfigured as error:
            problem = str(error)
    if problem:
        where = {"provider": provider.slug, "key": row.name, "variable": row.environment}
        _log.error("a managed key is off: its variable is of no use", problem=problem, **where)
        return None
    return listing.ManagedKey(row.name, found, row.requests_per_minute, row.concurrent)


def _wrong(base_url: str, api_key: str, row: Provider) -> str:
    """What is wrong with it, without a secret; both go into the head of every request."""
    if not base_url:
        return f"it has a key, but {row.env_prefix}_BASE_URL does not say its address"
    try:
        where = urlsplit(base_url)
        known = where.scheme in ("http", "https") and where.hostname and where.port != 0
    except ValueError:
        known = False
    if not known or not _VISIBLE.fullmatch(base_url) or where.query or where.fragment:
        return "the base URL is not http(s)://host[:port][/path]"
    if "@" in where.netloc:
        return "the base URL holds a user or password"
    if not _VISIBLE.fullmatch(api_key):
        return "the key holds a space, a line break or a character beyond ASCII"
    return ""


def _model(row: Model) -> listing.Model:
    return listing.Model(
        slug=row.slug,
        name=row.name,
        context_length=row.context_length,
        max_output=row.max_output,
        model_class=row.model_class,
        auto=row.auto,
        capabilities=frozenset(row.capabilities),
        created=_unix(row),
        description=row.description,
        listed=row.listed,
    )


def _unix(row: Model) -> int:
    return (row.released.toordinal() - 719_163) * 86_400


def _publish_or_log() -> None:
    """Redis being away must not fail a change that is committed: `routing.publish_catalog` says it again."""
    try:
        publish()
    except kv.Unreachable as error:
        _log.warning("catalog version not published", error=str(error))
