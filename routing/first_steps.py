"""How far an organization has come on its way to a first call."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from billing import overview, statements, wallets
from billing.statements import Call
from routing.core import auto
from routing.core.listing import Listing

_KINDS: Final = ("input", "output", "request")


@dataclass(frozen=True, slots=True)
class Means:
    """What a first call can be made with."""

    model: str
    """`auto`, or a model that costs nothing when there is no credit; empty when there is neither."""
    has_credit: bool
    trouble: str = ""
    """Why the organization may not call at all, in a word; usually empty."""


def has_called(organization_id: int) -> bool:
    """Whether anybody of the organization has ever made a call."""
    return bool(statements.calls(organization_id, limit=1))


def latest(organization_id: int, *, key_ids: Collection[int] | None) -> Call | None:
    """The newest call of these keys, or of all."""
    return next(iter(statements.calls(organization_id, limit=1, key_ids=key_ids)), None)


def means(organization_id: int, read: Callable[[], Listing]) -> Means:
    """What there is to call with. The wallet is opened here if its job has not come to it yet;
    what is listed is read only if it matters."""
    wallets.open_wallet(organization_id)
    found = overview.header(organization_id)
    has_credit = found.left_nanos > 0
    model = auto.AUTO if has_credit else _free(read())
    return Means(model, has_credit, found.frozen_because)


def _free(listing: Listing) -> str:
    """The first model by name that costs nothing at one provider at least."""
    return next(
        (
            slug
            for slug in sorted(listing.endpoints)
            for endpoint in listing.endpoints[slug]
            if not any(getattr(endpoint.price.rates, kind) for kind in _KINDS)
        ),
        "",
    )
