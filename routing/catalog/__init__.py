"""The catalog's files: one `<provider>.toml` each, loaded and checked. Pure; a bad file is one clear error.

README.md in this folder says how to add a provider. What a file may say is exactly what is read here: an
unknown field is refused, so a typo never passes for a default.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from billing.core.pricing import parse_price
from routing.core.listing import CLASSES, DATA_POLICIES, PARAMETERS, QUANTIZATIONS

FOLDER = Path(__file__).parent

DIALECTS = frozenset({"openai"})
PUBLISHED_FORMS = ("openrouter", "together")
"""Forms in which a provider's own list of models may state prices; `routing.published` reads them."""
QUIRKS = frozenset(
    {"max_completion_tokens", "bills_after_cancel", "bills_files", "no_stream_options", "picks_hosts"}
    | {"random_seed", "reasoning_beside"}
)
"""`max_completion_tokens`: the provider takes the bound on an answer under this name only.
`bills_after_cancel`: it bills an answer to its end, also when the connection is closed.
`bills_files`: it reads documents for a price of their own, so it is sent none.
`no_stream_options`: it refuses the field, and states its usage without being asked.
`picks_hosts`: it passes calls on to hosts at several prices, so it is told the one that we charge.
`random_seed`: it takes `seed` under this name only.
`reasoning_beside`: its `completion_tokens` leave out reasoning, which `total_tokens` has."""
CAPABILITIES = frozenset({"tools", "vision", "json_schema", "reasoning"})
_PROVIDER_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_MODEL_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9._-]*")
_ENV_PREFIX = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
_ADDRESS = re.compile(r"(https?://[^\s/?#]+(/[^\s?#]*[^\s?#/])?)?")
_LONGEST_MODEL_SLUG = 100
_NO_AMOUNT = ("above", "from", "until", "days")


class CatalogError(ValueError):
    """A file that cannot be used; the message names the file and the field."""


@dataclass(frozen=True, slots=True)
class ListedProvider:
    slug: str
    name: str
    dialect: str
    base_url: str
    env_prefix: str
    sandbox: bool
    keyless: bool
    """On without a key, once its base URL stands in the environment: a server of the operator's own."""
    quirks: frozenset[str]
    region: str
    data_policy: str
    publishes_prices: str
    """The form in which its list of models states prices; empty when it states none."""


@dataclass(frozen=True, slots=True)
class ListedModel:
    """What is true of a model whoever hosts it; files that repeat it must agree."""

    slug: str
    name: str
    description: str
    context_length: int
    max_output: int
    model_class: str
    auto: bool
    listed: bool
    """Whether people are shown it; one that is not may be called all the same."""
    capabilities: frozenset[str]
    released: date


@dataclass(frozen=True, slots=True)
class ListedEndpoint:
    provider: str
    model: str
    upstream_name: str
    max_context: int | None
    """This provider's own context, where it is below the model's."""
    max_output: int
    quantization: str
    parameters: frozenset[str] | None
    """What of a request it honours; None when that is not known."""
    data_policy: str
    """Where it differs from the provider's."""
    ttft_ms: int
    tokens_per_second: int
    prices: Mapping[str, Any] | None
    """Stated in the file: decimal strings, USD per million tokens."""
    price_list: str | None
    """Otherwise `provider/model` in the price list."""

    @property
    def slug(self) -> str:
        return f"{self.provider}:{self.model}"


@dataclass(frozen=True, slots=True)
class Catalog:
    providers: Mapping[str, ListedProvider]
    models: Mapping[str, ListedModel]
    endpoints: Mapping[str, ListedEndpoint]


def load(folder: Path = FOLDER) -> Catalog:
    """Every file of a folder, in the order of their names. Raises CatalogError."""
    providers: dict[str, ListedProvider] = {}
    models: dict[str, ListedModel] = {}
    said_by: dict[str, str] = {}
    endpoints: dict[str, ListedEndpoint] = {}
    for path in sorted(folder.glob("*.toml")):
        provider, listed = load_file(path)
        providers[provider.slug] = provider
        for model, endpoint in listed:
            known = models.setdefault(model.slug, model)
            first = said_by.setdefault(model.slug, path.name)
            if known != model:
                fields = (
                    name
                    for name in model.__dataclass_fields__
                    if getattr(model, name) != getattr(known, name)
                )
                raise CatalogError(f"{path.name}: {model.slug}: {', '.join(fields)} differs from {first}")
            endpoints[endpoint.slug] = endpoint
    if not providers:
        raise CatalogError(f"{folder.name}: there is no <provider>.toml")
    return Catalog(providers, models, endpoints)


def load_file(path: Path) -> tuple[ListedProvider, list[tuple[ListedModel, ListedEndpoint]]]:
    """One provider with its models. Raises CatalogError naming the file and the field."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogError(f"{path.name}: {error}") from error
    fields = _Fields(path.name, table)
    provider = _provider(fields, path.stem)
    shared = _Shared(fields.text("price_list", ""), fields.optional("parameters", PARAMETERS))
    entries = fields.tables("models")
    fields.finish()
    listed = []
    seen: set[str] = set()
    for at, entry in enumerate(entries):
        where = f"{path.name}: models[{at}]"
        if isinstance(entry, dict) and isinstance(entry.get("slug"), str):
            where = f"{path.name}: {entry['slug']}"
        model, endpoint = _model(_Fields(where, entry), provider, shared)
        if model.slug in seen:
            raise CatalogError(f"{where}: slug: listed twice")
        seen.add(model.slug)
        listed.append((model, endpoint))
    return provider, listed


def _provider(fields: _Fields, slug: str) -> ListedProvider:
    if not _PROVIDER_SLUG.fullmatch(slug):
        raise fields.wrong("file name", "must be lower-case letters, digits and hyphens")
    sandbox = fields.flag("sandbox", False)
    return ListedProvider(
        slug=slug,
        name=fields.text("name"),
        dialect=fields.among("dialect", DIALECTS, "openai"),
        base_url=fields.text("base_url", "", shape=_ADDRESS),
        env_prefix=fields.text("env_prefix", "" if sandbox else None, shape=None if sandbox else _ENV_PREFIX),
        sandbox=sandbox,
        keyless=fields.flag("keyless", False),
        quirks=fields.several("quirks", QUIRKS),
        region=fields.text("region", ""),
        data_policy=fields.among("data_policy", (*DATA_POLICIES, ""), ""),
        publishes_prices=fields.among("publishes_prices", (*PUBLISHED_FORMS, ""), ""),
    )


@dataclass(frozen=True, slots=True)
class _Shared:
    """What a provider says once for all its models."""

    price_list: str
    parameters: frozenset[str] | None


def _model(fields: _Fields, provider: ListedProvider, shared: _Shared) -> tuple[ListedModel, ListedEndpoint]:
    slug = fields.text("slug", shape=_MODEL_SLUG)
    if len(slug) > _LONGEST_MODEL_SLUG:
        raise fields.wrong("slug", f"is longer than {_LONGEST_MODEL_SLUG} characters")
    model = ListedModel(
        slug=slug,
        name=fields.text("name"),
        description=fields.text("description", ""),
        context_length=fields.whole("context_length"),
        max_output=fields.whole("max_output"),
        model_class=fields.among("class", CLASSES),
        auto=fields.flag("auto"),
        listed=fields.flag("listed", True),
        capabilities=fields.several("capabilities", CAPABILITIES),
        released=fields.day("released"),
    )
    if model.max_output > model.context_length:
        raise fields.wrong("max_output", "is more than context_length")
    endpoint = _endpoint(fields, provider, model, shared)
    fields.finish()
    return model, endpoint


def _endpoint(
    fields: _Fields, provider: ListedProvider, model: ListedModel, shared: _Shared
) -> ListedEndpoint:
    upstream_name = fields.text("upstream_name")
    prices = fields.prices("prices")
    default = f"{shared.price_list}/{upstream_name}" if shared.price_list else ""
    listed_as = fields.text("price_list", default) or None
    if prices is None and listed_as is None:
        raise fields.wrong("prices", "must be stated (zero too), or the file must name its price_list")
    context = fields.within("endpoint_context", model.context_length, "context_length")
    most = min(model.max_output, context)
    parameters = fields.optional("parameters", PARAMETERS)
    return ListedEndpoint(
        provider=provider.slug,
        model=model.slug,
        upstream_name=upstream_name,
        max_context=context if context < model.context_length else None,
        max_output=fields.within(
            "endpoint_max_output", most, "what the model and the endpoint have room for"
        ),
        quantization=fields.among("quantization", QUANTIZATIONS, "unknown"),
        parameters=shared.parameters if parameters is None else parameters,
        data_policy=fields.among("data_policy", (*DATA_POLICIES, ""), ""),
        ttft_ms=fields.whole("ttft_ms"),
        tokens_per_second=fields.whole("tokens_per_second"),
        prices=prices,
        price_list=None if prices is not None else listed_as,
    )


class _Fields:
    """A table of a file, read field by field; what is left unread at the end was a typo."""

    def __init__(self, where: str, table: object) -> None:
        self.where = where
        if not isinstance(table, dict):
            raise CatalogError(f"{where}: must be a table")
        self.left: dict[str, Any] = dict(table)

    def wrong(self, name: str, why: str) -> CatalogError:
        return CatalogError(f"{self.where}: {name}: {why}")

    def finish(self) -> None:
        if self.left:
            raise self.wrong(min(self.left), "is not a field that the catalog knows")

    def text(self, name: str, default: str | None = None, *, shape: re.Pattern[str] | None = None) -> str:
        value = self._take(name, default, lambda value: isinstance(value, str), "must be a text")
        if shape is not None and not shape.fullmatch(value):
            raise self.wrong(name, f"{value!r} does not have the right form")
        return str(value)

    def flag(self, name: str, default: bool | None = None) -> bool:
        return bool(self._take(name, default, lambda value: isinstance(value, bool), "must be true or false"))

    def whole(self, name: str, default: int | None = None) -> int:
        def fits(value: object) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31

        return int(self._take(name, default, fits, "must be a whole number above zero"))

    def within(self, name: str, most: int, what: str) -> int:
        """At most `most`, and that when it is not said."""
        value = self.whole(name, most)
        if value > most:
            raise self.wrong(name, f"is more than {what}")
        return value

    def day(self, name: str) -> date:
        value = self._take(name, None, lambda value: type(value) is date, "must be a date such as 2026-05-01")
        assert isinstance(value, date)  # noqa: S101 (said to the type checker)
        return value

    def among(self, name: str, choices: Collection[str], default: str | None = None) -> str:
        value = self.text(name, default)
        if value not in choices:
            raise self.wrong(name, f"{value!r} is not one of {', '.join(sorted(filter(None, choices)))}")
        return value

    def several(self, name: str, choices: Collection[str]) -> frozenset[str]:
        values = self._take(name, [], lambda value: isinstance(value, list), "must be a list")
        for value in values:
            if value not in choices:
                raise self.wrong(name, f"{value!r} is not one of {', '.join(sorted(choices))}")
        return frozenset(values)

    def optional(self, name: str, choices: Collection[str]) -> frozenset[str] | None:
        return self.several(name, choices) if name in self.left else None

    def tables(self, name: str) -> list[Any]:
        def fits(value: object) -> bool:
            return isinstance(value, list) and bool(value)

        return list(self._take(name, None, fits, "must be a list of tables, [[models]]"))

    def prices(self, name: str) -> dict[str, Any] | None:
        value = self.left.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(name, "must be a table")
        for kind, amount in _amounts(value):
            if not isinstance(amount, str):
                raise self.wrong(f"{name}.{kind}", 'must be a decimal in quotes, such as "0.25"')
        try:
            parse_price(0, value)
        except (ValueError, ArithmeticError, KeyError, TypeError) as error:
            raise self.wrong(name, f"cannot be read: {error}") from error
        return value

    def _take(self, name: str, default: Any, fits: Callable[[object], bool], why: str) -> Any:
        value = self.left.pop(name, default)
        if value is None:
            raise self.wrong(name, "must be said")
        if not fits(value):
            raise self.wrong(name, f"{why}, not {value!r}")
        return value


def _amounts(prices: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Every amount of a price, of its tiers and of its windows, by name."""
    found: list[tuple[str, Any]] = []
    for kind, value in prices.items():
        if kind not in ("tiers", "windows"):
            found += [] if kind in _NO_AMOUNT else [(kind, value)]
            continue
        for at, part in enumerate(value if isinstance(value, list) else []):
            if isinstance(part, dict):
                found += [(f"{kind}[{at}].{name}", amount) for name, amount in _amounts(part)]
    return found
