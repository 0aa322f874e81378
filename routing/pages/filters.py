"""What the list of calls is narrowed to, as an address says it. What it says wrongly narrows nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from accounts.access import SeenKey
from billing import calls
from billing.core.money import parse_usd
from routing.core.chat import PREFERENCES

_NAMES: Final = (
    "key",
    "model",
    "endpoint",
    "status",
    "error",
    "from",
    "to",
    "cost",
    "streamed",
    "preference",
)
_MORE: Final = ("endpoint", "error", "from", "to", "cost", "streamed", "preference")
_STREAMED: Final = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class Filters:
    """`said` is what the address says and is in force, by name; `wanted` the same for the query."""

    said: dict[str, str]
    wanted: calls.Wanted

    @property
    def any(self) -> bool:
        return any(self.said.values())

    @property
    def any_more(self) -> bool:
        """Whether one of those is in force that the page folds away."""
        return any(self.said[name] for name in _MORE)


def read(asked: Mapping[str, str], keys: list[SeenKey], *, all_keys: bool) -> Filters:
    said = {name: asked.get(name, "").strip()[:200] for name in (*_NAMES, "q")}
    since, until = _time(said["from"]), _time(said["to"])
    cost = _nanos(said["cost"])
    said |= {
        "status": said["status"] if said["status"] in calls.STATUSES else "",
        "preference": said["preference"] if said["preference"] in PREFERENCES else "",
        "streamed": said["streamed"] if said["streamed"] in _STREAMED else "",
        "from": f"{since:%Y-%m-%dT%H:%M}" if since else "",
        "to": f"{until:%Y-%m-%dT%H:%M}" if until else "",
        "cost": said["cost"].lstrip("$") if cost else "",
    }
    key_ids = None if all_keys else [key.id for key in keys]
    if said["key"]:
        key_ids = [key.id for key in keys if key.public_id == said["key"]]
    wanted = calls.Wanted(
        key_ids=key_ids,
        model=said["model"],
        endpoint=said["endpoint"],
        status=said["status"],
        error=said["error"],
        since=since,
        until=until,
        least_nanos=cost,
        streamed=_STREAMED.get(said["streamed"]),
        preference=said["preference"],
        search=said["q"],
    )
    return Filters(said, wanted)


def _time(text: str) -> datetime | None:
    """A day, or a minute of it, UTC."""
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _nanos(text: str) -> int:
    try:
        return max(parse_usd(text.lstrip("$")), 0) if text else 0
    except ValueError:
        return 0
