"""Lists by pages that neither skip nor repeat a row while others are added: keyset paging, in some orders.

An address says `sort` (a name, with a minus for descending) and `after` (a cursor: the last row shown).
What it says wrongly is as if it said nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar

from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from django.utils.http import urlencode

M = TypeVar("M", bound=Model)
T = TypeVar("T")

_MOST = 600
"""Characters of a cursor; ours are far shorter."""


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """One page. `more` and `first` are queries for the page's own address; empty where there is none."""

    rows: list[T]
    sort: str
    """As the address says it, such as `-created`."""
    kept: tuple[tuple[str, str], ...]
    """The filters that every link of the list carries on."""
    more: str
    first: str

    def query(self, sort: str) -> str:
        """The same list in another order, from its beginning."""
        return "?" + urlencode([*self.kept, ("sort", sort)])


def listed(
    rows: QuerySet[M],
    asked: Mapping[str, str],
    *,
    sorts: Mapping[str, str],
    default: str,
    size: int,
    keep: Mapping[str, str] | None = None,
) -> Listed[M]:
    """`sorts`: name in the address → field, never null; the primary key decides between equals.

    `keep` are the filters in force; empty ones are left out of the addresses.
    """
    sort = asked.get("sort", "")
    if sort.removeprefix("-") not in sorts:
        sort = default
    sign = "-" if sort.startswith("-") else ""
    field = sorts[sort.removeprefix("-")]
    ordered = rows.order_by(f"{sign}{field}", f"{sign}pk")
    place = start(asked, rows, field)
    if place is not None:
        value, pk = place
        beyond = "lt" if sign else "gt"
        equal = Q(**{field: value, f"pk__{beyond}": pk})
        # What the second says, the first says so that an index can begin there.
        ordered = ordered.filter(**{f"{field}__{beyond}e": value})
        ordered = ordered.filter(Q(**{f"{field}__{beyond}": value}) | equal)
    found = list(ordered[: size + 1])
    kept = tuple((name, value) for name, value in (keep or {}).items() if value)
    stays = [*kept, *([("sort", sort)] if sort != default else [])]
    more = ""
    if len(found) > size:
        found = found[:size]
        more = "?" + urlencode([*stays, ("after", _write(found[-1], field))])
    return Listed(found, sort, kept, more, "?" + urlencode(stays) if place is not None else "")


def start(asked: Mapping[str, str], rows: QuerySet[Any], field: str) -> tuple[Any, Any] | None:
    """The value and the primary key after which a page of these rows begins; None for the first."""
    return _read(asked.get("after", ""), rows, field)


def cursor(value: Any, pk: object) -> str:
    """What `after` says of a row with this value and primary key."""
    return _packed([value.isoformat() if isinstance(value, datetime) else value, str(pk)])


def placed(
    rows: Sequence[T],
    asked: Mapping[str, str],
    *,
    sorts: Mapping[str, Callable[[T], Any]],
    name: Callable[[T], str],
    default: str,
    size: int,
    keep: Sequence[tuple[str, str]] = (),
) -> Listed[T]:
    """The same for rows that are in memory.

    `sorts`: name in the address → what to order by, of one kind; None comes last either way. `name` is a
    row's own and decides between equals.
    """
    sort = asked.get("sort", "")
    if sort.removeprefix("-") not in sorts:
        sort = default
    down, value = sort.startswith("-"), sorts[sort.removeprefix("-")]
    known = sorted((row for row in rows if value(row) is not None), key=name)
    known.sort(key=value, reverse=down)
    ordered = known + sorted((row for row in rows if value(row) is None), key=name)
    stays = [*keep, *([("sort", sort)] if sort != default else [])]
    place = _unpacked(asked.get("after", ""))
    if place is not None:
        last, last_name = place

        def follows(row: T) -> bool:
            own = None if value(row) is None else _plain(value(row))
            if own is None or last is None or own == last:
                return (own is None and last is not None) or (own == last and name(row) > last_name)
            return bool(own < last if down else own > last)

        try:
            ordered = [row for row in ordered if follows(row)]
        except TypeError:  # a cursor of another order
            place = None
    more = ""
    if len(ordered) > size:
        ordered = ordered[:size]
        last_row = ordered[-1]
        cursor = _packed([_plain(value(last_row)), name(last_row)])
        more = "?" + urlencode([*stays, ("after", cursor)])
    return Listed(ordered, sort, tuple(keep), more, "?" + urlencode(stays) if place is not None else "")


def _plain(value: Any) -> Any:
    """As JSON brings it back: a decimal is compared as a number."""
    return float(value) if isinstance(value, Decimal) else value


def _packed(place: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(place, default=str).encode()).decode().rstrip("=")


def _unpacked(text: str) -> tuple[Any, str] | None:
    if not text or len(text) > _MOST:
        return None
    try:
        value, name = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError, binascii.Error):
        return None
    return (value, name) if isinstance(name, str) else None


def _write(row: Model, field: str) -> str:
    value = row
    for part in field.split("__"):
        value = getattr(value, part)
    return cursor(value, row.pk)


def _read(text: str, rows: QuerySet[Any], field: str) -> tuple[Any, Any] | None:
    """Value and primary key as the columns hold them; None for what is no cursor of this list."""
    if not text or len(text) > _MOST:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        value, pk = found
        key = rows.model._meta.pk
        column = _column(rows, field)
        place = (column.to_python(value) if column is not None else value), key.to_python(pk)
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error, ValidationError):
        return None
    return place if all(map(_can_be_asked, place)) else None


def _can_be_asked(value: Any) -> bool:
    """Whether a column can be compared with it: not null, nor a text or a time that no column holds."""
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
    return value is not None and not (isinstance(value, datetime) and value.tzinfo is None)


def _column(rows: QuerySet[Any], field: str) -> Any:
    if field in rows.query.annotations:
        return rows.query.annotations[field].output_field
    model: Any = rows.model
    column: Any = None
    for part in field.split("__"):
        column = model._meta.get_field(part)
        model = column.related_model
    return column
