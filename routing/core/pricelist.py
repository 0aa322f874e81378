"""Prices from the `genai-prices` package, for models that the catalog lists and states no price of.

Looked up only for catalogued ids, and resolved here into our own stated shape: decimal strings in USD per
million tokens. From then on our dated rows are what counts, not the package.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from genai_prices import __version__ as package_version
from genai_prices import data
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices, TimeOfDateConstraint

from billing.core.pricing import parse_price
from billing.core.windows import time_of_day

SOURCE = f"genai-prices {package_version}"

_KINDS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_image_mtok": "image",
    "input_audio_mtok": "audio",
    "output_image_mtok": "image_output",
    "output_audio_mtok": "audio_output",
    "requests_kcount": "request",
}
"""Their names for what we price. Video, hours of audio and searches are refused before they reach a model."""
_PER_THOUSAND = Decimal(1000)
_DAY = 24 * 60


class Unpriced(LookupError):
    """The list has no price that we could charge by; the message says why."""


def stated(listed_as: str, *, now: datetime) -> dict[str, Any]:
    """The price of `provider/model` as the list has it on the day of `now`. Raises Unpriced."""
    model = _find(listed_as)
    price, others = _hours(model, listed_as, now)
    result = _stated(price, listed_as)
    if others:
        result["windows"] = [
            {
                "from": time_of_day(begins),
                "until": time_of_day(ends % _DAY),
                **({"tiers": []} if "tiers" in result else {}),
                **_as_whole(_stated(other, listed_as), result, listed_as),
            }
            for begins, ends, other in others
        ]
    try:
        parse_price(0, result)
    except ValueError as error:
        raise Unpriced(f"the price list says of {listed_as}: {error}") from error
    return result


def _stated(price: ModelPrice, listed_as: str) -> dict[str, Any]:
    found = {ours: value for theirs, ours in _KINDS.items() if (value := _of(price, theirs)) is not None}
    if "input" not in found or "output" not in found:
        raise Unpriced(f"the price list says no input and output price of {listed_as}")
    result: dict[str, Any] = {kind: _text(kind, _base(value)) for kind, value in found.items()}
    starts = sorted(
        {t.start for value in found.values() if isinstance(value, TieredPrices) for t in value.tiers}
    )
    if starts:
        result["tiers"] = [
            {"above": start, **{kind: _text(kind, _at(value, start)) for kind, value in found.items()}}
            for start in starts
        ]
    return result


def _find(listed_as: str) -> ModelInfo:
    provider_id, _, model_id = listed_as.partition("/")
    for provider in data.providers:
        if provider.id == provider_id:
            exact = next((model for model in provider.models if model.id == model_id), None)
            found = exact or next((model for model in provider.models if model.is_match(model_id)), None)
            if found is None:
                raise Unpriced(f"the price list does not know {listed_as}")
            if _bare(found.id) != _bare(model_id):
                raise Unpriced(f"the price list has {found.id} for {listed_as}, which may be another model")
            return found
    raise Unpriced(f"the price list does not know the provider {provider_id}")


def _bare(model_id: str) -> str:
    """Without its folder and its case: the list matches by prefixes too, and would price an invented name."""
    return model_id.rpartition("/")[2].lower()


def _hours(
    model: ModelInfo, listed_as: str, now: datetime
) -> tuple[ModelPrice, list[tuple[int, int, ModelPrice]]]:
    """The price outside of all hours; from which minute of the day (UTC) to before which another holds."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    conditions = [each.constraint for each in model.prices] if isinstance(model.prices, list) else []
    hours = [each for each in conditions if isinstance(each, TimeOfDateConstraint)]
    if not hours:
        return model.get_prices(now), []
    edges = {_minute(edge, listed_as) for each in hours for edge in (each.start_time, each.end_time)}
    starts = sorted(edges)
    spans = [
        (begins, ends, midnight + timedelta(minutes=begins))
        for begins, ends in zip(starts, [*starts[1:], starts[0] + _DAY], strict=True)
    ]
    free = [at for _, _, at in spans if not any(each.active(at) for each in hours)]
    base = model.get_prices(free[0] if free else midnight)
    return base, [
        (begins, ends, price) for begins, ends, at in spans if (price := model.get_prices(at)) != base
    ]


def _as_whole(window: dict[str, Any], around: dict[str, Any], listed_as: str) -> dict[str, Any]:
    """A window that leaves a kind out would take it from around it: the list means something else."""
    if missing := sorted(set(around) - set(window) - {"tiers", "windows"}):
        raise Unpriced(f"the list says no {', '.join(missing)} price of {listed_as} at some hours")
    return window


def _minute(at: time, listed_as: str) -> int:
    """Of the day, UTC; the list's times without a zone are UTC."""
    if at.second or at.microsecond:
        raise Unpriced(f"the price of {listed_as} changes within a minute")
    away = at.utcoffset() or timedelta()
    return (at.hour * 60 + at.minute - int(away.total_seconds()) // 60) % _DAY


def _of(price: ModelPrice, name: str) -> Decimal | TieredPrices | None:
    value = price.__dict__.get(name)
    return value if isinstance(value, Decimal | TieredPrices) else None


def _base(value: Decimal | TieredPrices) -> Decimal:
    return value.base if isinstance(value, TieredPrices) else value


def _at(value: Decimal | TieredPrices, start: int) -> Decimal:
    """The price for a prompt just longer than `start` tokens."""
    if not isinstance(value, TieredPrices):
        return value
    price = value.base
    for tier in value.tiers:
        if tier.start <= start:
            price = tier.price
    return price


def _text(kind: str, amount: Decimal) -> str:
    return f"{amount / _PER_THOUSAND if kind == 'request' else amount:f}"
