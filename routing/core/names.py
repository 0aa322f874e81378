"""From the model a customer wrote to the one that is meant; and when there is none, the nearest there is."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from aggregator.lib.errors import Refusal
from routing.core.auto import AUTO, is_allowed
from routing.core.listing import Listing

MOST_COMPARED = 12
_LONGEST = 200


def resolve(asked: str, listing: Listing, *, allowed_models: Collection[str] = ()) -> str:
    """`author/slug`, or a bare slug when only one author has it. Raises Refusal 404 naming the nearest."""
    if asked in listing.models:
        return asked
    meant = _by_bare_slug(listing).get(asked, ())
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise _unknown(asked, f"{asked} could be {' or '.join(meant)}: write the author too", meant[0])
    best = nearest(asked, listing, allowed_models=allowed_models)
    hint = f"There is no model {asked[:_LONGEST]!r}"
    raise _unknown(asked, f"{hint}. The nearest is {best}" if best else hint, best)


def nearest(asked: str, listing: Listing, *, allowed_models: Collection[str] = ()) -> str | None:
    """The callable model whose name is most like what was written; `auto` is one of them.

    Shared letter triples pick a few first, so that a long list costs little.
    """
    asked = asked[:_LONGEST].lower()
    wanted = _triples(asked)
    callable_ = [slug for slug in listing.endpoints if not allowed_models or is_allowed(slug, allowed_models)]
    callable_.append(AUTO)
    few = sorted(callable_, key=lambda slug: (-len(wanted & _triples(slug)), slug))[:MOST_COMPARED]
    return max(few, key=lambda slug: _likeness(asked, slug), default=None)


def _by_bare_slug(listing: Listing) -> dict[str, tuple[str, ...]]:
    kept: dict[str, tuple[str, ...]] = listing.derived.get("bare slugs", {})
    if not kept:
        for slug in sorted(listing.models):
            bare = slug.partition("/")[2]
            kept[bare] = (*kept.get(bare, ()), slug)
        listing.derived["bare slugs"] = kept
    return kept


def _triples(text: str) -> set[str]:
    return {text[at : at + 3] for at in range(len(text) - 2)}


def _likeness(asked: str, slug: str) -> float:
    """How alike, by the whole name or by the part after the author, whichever is nearer."""
    whole = difflib.SequenceMatcher(None, asked, slug).ratio()
    bare = difflib.SequenceMatcher(None, asked, slug.partition("/")[2]).ratio()
    return max(whole, bare)


def _unknown(asked: str, message: str, best: str | None) -> Refusal:
    return Refusal(
        "model_not_found",
        f"{message}.",
        status=404,
        param="model",
        metadata={"model": asked[:_LONGEST], "nearest": best},
    )
