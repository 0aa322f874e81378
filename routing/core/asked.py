"""What a request asks of the gateway itself, in every dialect: which models, which providers, what bounds.

A dialect reads these fields beside its own and never sends them to a provider. Source of the names:
OpenRouter's request, so that its customers change one line; `route_preference`, `max_cost`, `min_class`,
`allowed_models` and `num_retries` are ours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from decimal import ROUND_DOWN, Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw

from aggregator.lib.errors import Refusal
from billing.core.money import parse_usd
from routing.core.auto import AUTO
from routing.core.chat import MOST_MODELS, PREFERENCES
from routing.core.listing import CLASSES, QUANTIZATIONS
from routing.core.preferences import ANY, MaxPrice, Preferences, Wished

FIELDS = frozenset(
    {"route_preference", "max_cost", "min_class", "allowed_models", "show_route", "preset", "timeout"}
    | {"num_retries", "models", "route", "provider", "plugins", "transforms", "usage", "session_id"}
)
"""Never sent to a provider: ours, and what other gateways understand."""

VARIANTS = {"nitro": "throughput", "floor": "price", "free": None}
"""A suffix of a model, `author/slug:nitro`, and how it sorts endpoints."""

_ALIASES = {"openrouter/auto": AUTO, "fairlead/auto": AUTO}
_MOST_RETRIES = 10
_MOST_PROVIDERS = 100
_MOST_PRICE = 1_000_000
_LEAST_PRICE = Decimal("1e-9")
"""What is finer is cut off: 1e-900000000 would be as many digits wherever it is written out."""
_LONGEST_SESSION = 256
_LONGEST_USER = 256
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DIGESTED = 4096
"""Bytes of a first message that tell conversations apart; the length counts as well."""
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern="^[^\\x00]*$")]
"""It is kept with the call, and PostgreSQL keeps no NUL."""
_Slugs = Annotated[list[Name], Meta(max_length=_MOST_PROVIDERS)]
_Models = Annotated[list[Name], Meta(max_length=MOST_MODELS)]
_Seconds = Annotated[float, Meta(gt=0, le=86_400)]
_Figure = Annotated[float, Meta(ge=0, le=1e9)]
_Sort = Literal["price", "throughput", "latency"]

ABSENT = Raw(b"")
NOTHING = (b"", b"null", b"[]", b"{}", b"false")


class _Cutoffs(msgspec.Struct):
    p50: _Figure | None = None
    p75: _Figure | None = None
    p90: _Figure | None = None
    p99: _Figure | None = None


class _MaxPrice(msgspec.Struct):
    """USD per million tokens, as numbers or decimal strings."""

    prompt: Decimal | None = None
    completion: Decimal | None = None
    request: Decimal | None = None
    image: Decimal | None = None
    audio: Decimal | None = None


class _SortBy(msgspec.Struct):
    by: _Sort | None = None
    partition: Literal["model", "none"] | None = None


class _Provider(msgspec.Struct):
    order: _Slugs | None = None
    only: _Slugs | None = None
    ignore: _Slugs | None = None
    allow_fallbacks: bool | None = None
    require_parameters: bool | None = None
    data_collection: Literal["allow", "deny"] | None = None
    zdr: bool | None = None
    enforce_distillable_text: bool | None = None
    quantizations: list[str] | None = None
    sort: _Sort | _SortBy | None = None
    max_price: _MaxPrice | None = None
    preferred_min_throughput: _Figure | _Cutoffs | None = None
    preferred_max_latency: _Figure | _Cutoffs | None = None
    options: Raw = ABSENT


class _Plugin(msgspec.Struct):
    id: str
    enabled: bool | None = None
    allowed_models: _Models | None = None
    excluded_models: Raw = ABSENT


class Asked(msgspec.Struct, kw_only=True):
    """The gateway's part of a request, as it is decoded; a wrong type is a 400 that names the field."""

    model: Name | None = None
    models: _Models | None = None
    allowed_models: _Models | None = None
    route_preference: str | None = None
    min_class: str | None = None
    max_cost: float | str | None = None
    timeout: _Seconds | None = None
    num_retries: Annotated[int, Meta(ge=0, le=_MOST_RETRIES)] | None = None
    provider: _Provider | None = None
    plugins: list[_Plugin] | None = None
    session_id: Annotated[str, Meta(max_length=_LONGEST_SESSION)] | None = None
    user: str | None = None
    route: Raw = ABSENT
    show_route: bool | None = None


def common(asked: Asked, *, max_cost: Raw | None) -> dict[str, Any]:
    """The fields of a `Chat` that are the gateway's own. `max_cost` as it was written, since a cap is exact.

    Raises Refusal 400 that names the field.
    """
    named = _models(asked)
    variants = {variant for _, variant in named}
    if len(variants) > 1:
        raise _wrong("models", "models of one request must have the same variant")
    variant = variants.pop()
    (model, _), *others = named
    return {
        "model": model,
        "fallback_models": tuple(name for name, _ in others),
        "allowed_models": _allowed(asked),
        "preference": _one_of("route_preference", asked.route_preference, PREFERENCES),
        "min_class": _one_of("min_class", asked.min_class, CLASSES),
        "max_cost_nanos": _max_cost(max_cost, asked.max_cost),
        "timeout_seconds": asked.timeout,
        "num_retries": asked.num_retries,
        "end_user": _end_user(asked.user),
        "show_route": bool(asked.show_route) or bytes(asked.route) in (b"true", b'"show"'),
        "providers": _preferences(asked.provider, variant),
        "free_only": variant == "free",
    }


def conversation(session: str | None, first: Iterable[bytes]) -> bytes:
    """What tells conversations apart: the session that the customer names, or how the talk begins.

    The first byte says which of the two: `s` or `h`.
    """
    if session:
        return b"s" + hashlib.blake2b(session.encode(), digest_size=8).digest()
    digest = hashlib.blake2b(digest_size=8)
    for said in first:
        digest.update(b"%d:%b" % (len(said), said[:_DIGESTED]))
    return b"h" + digest.digest()


def _models(asked: Asked) -> list[tuple[str, str | None]]:
    """(model, variant) in order, each once; the first of `models` stands in for a missing `model`."""
    written = list(dict.fromkeys(([asked.model] if asked.model else []) + list(asked.models or ())))
    if not written:
        raise Refusal("invalid_request", "`model`: it is required", param="model")
    return [_split(name) for name in written]


def _split(written: str) -> tuple[str, str | None]:
    name, _, suffix = written.partition(":")
    if suffix and suffix not in VARIANTS:
        known = ", ".join(f":{variant}" for variant in VARIANTS)
        raise _wrong("model", f"`:{suffix[:40]}` is not a variant; there are {known}")
    return _ALIASES.get(name, name), suffix or None


def _allowed(asked: Asked) -> tuple[str, ...]:
    """Ours, or what OpenRouter's auto-router plugin says: the only plugin that there is here."""
    allowed = list(asked.allowed_models or ())
    for plugin in asked.plugins or ():
        if plugin.enabled is False:
            continue
        if plugin.id != "auto-router":
            raise _not_offered("plugins", f"the plugin {plugin.id[:40]!r}")
        if bytes(plugin.excluded_models) not in NOTHING:
            raise _not_offered("plugins", "`excluded_models`")
        allowed += plugin.allowed_models or ()
    return tuple(dict.fromkeys(allowed))


def _preferences(said: _Provider | None, variant: str | None) -> Preferences:
    if said is None and variant is None:
        return ANY
    said = said or _Provider()
    if said.enforce_distillable_text:
        raise _not_offered("provider.enforce_distillable_text", "`enforce_distillable_text`")
    if bytes(said.options) not in NOTHING:
        raise _not_offered("provider.options", "`provider.options`")
    for name in said.quantizations or ():
        _one_of("provider.quantizations", name, QUANTIZATIONS)
    by: str | None = said.sort if isinstance(said.sort, str) else said.sort.by if said.sort else None
    if by is None and variant is not None and not said.order:
        by = VARIANTS[variant]
    return Preferences(
        order=_slugs(said.order),
        only=frozenset(_slugs(said.only)),
        ignore=frozenset(_slugs(said.ignore)),
        allow_fallbacks=said.allow_fallbacks is not False,
        require_parameters=bool(said.require_parameters),
        no_collection=said.data_collection == "deny",
        zdr=bool(said.zdr),
        quantizations=frozenset(said.quantizations or ()),
        sort=by,
        across_models=isinstance(said.sort, _SortBy) and said.sort.partition == "none",
        max_price=_max_price(said.max_price),
        min_throughput=_wished(said.preferred_min_throughput),
        max_latency=_wished(said.preferred_max_latency),
    )


def _slugs(said: list[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.lower() for name in said or ()))


def _wished(said: float | _Cutoffs | None) -> Wished | None:
    """A plain number is asked of the median."""
    if said is None:
        return None
    if isinstance(said, _Cutoffs):
        return Wished(said.p50, said.p75, said.p90, said.p99)
    return Wished(p50=said)


def _max_price(said: _MaxPrice | None) -> MaxPrice | None:
    if said is None:
        return None
    for name in said.__struct_fields__:
        amount = getattr(said, name)
        if amount is not None and not (amount.is_finite() and 0 <= amount <= _MOST_PRICE):
            raise _wrong(f"provider.max_price.{name}", f"must be a price from 0 to {_MOST_PRICE:,}")
    return MaxPrice(_cut(said.prompt), _cut(said.completion), _cut(said.request))


def _cut(price: Decimal | None) -> Decimal | None:
    return None if price is None else price.quantize(_LEAST_PRICE, ROUND_DOWN)


def _max_cost(raw: Raw | None, value: float | str | None) -> int | None:
    if raw is None or value is None:
        return None
    try:
        nanos = parse_usd(value if isinstance(value, str) else _plain(bytes(raw)))
    except ValueError as error:
        raise Refusal("invalid_request", f"`max_cost`: {error}", param="max_cost") from error
    if nanos <= 0:
        raise Refusal("invalid_request", "`max_cost` must be above zero", param="max_cost")
    return nanos


def _plain(number: bytes) -> str:
    """A JSON number without an exponent, cut to whole nano-dollars: a cap may be lower, not higher."""
    amount = Decimal(number.decode())
    if not amount or amount.adjusted() < -9:
        return "0"  # written out, its digits could be as many as its exponent says
    whole, _, rest = format(amount, "f").partition(".")
    return f"{whole}.{rest[:9]}" if rest else whole


def _end_user(said: str | None) -> str:
    """Kept with the call, and named in the accounts of end users' budgets."""
    if not said:
        return ""
    if len(said) > _LONGEST_USER:
        raise _wrong("user", f"must have at most {_LONGEST_USER} characters")
    if _UNPRINTABLE.search(said):
        raise _wrong("user", "must have no control characters")
    return said


def _one_of(name: str, value: str | None, among: tuple[str, ...]) -> str | None:
    if value is None or value in among:
        return value
    raise Refusal("invalid_request", f"`{name}` must be one of {', '.join(among)}, not {value!r}", param=name)


def _wrong(field: str, why: str) -> Refusal:
    return Refusal("invalid_request", f"`{field}`: {why}.", param=field)


def _not_offered(field: str, what: str) -> Refusal:
    return Refusal("unsupported_parameter", f"{what} is not offered here.", param=field)
