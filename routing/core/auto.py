"""Who is in the pool behind `model: "auto"`."""

from __future__ import annotations

from collections.abc import Collection

from routing.core.listing import CLASSES, Listing, Model

AUTO = "auto"
LEAST_CLASS = "standard"
"""Otherwise `cost` would simply mean the worst model."""


def is_member(model: Model, *, min_class: str | None) -> bool:
    return model.auto and CLASSES.index(model.model_class) >= CLASSES.index(min_class or LEAST_CLASS)


def is_allowed(slug: str, allowed: Collection[str]) -> bool:
    """Whether a list that is not empty names a model, or how it begins: `author/*`, `author/family-*`."""
    return slug in allowed or any(slug.startswith(one[:-1]) for one in allowed if one.endswith("*"))


def pool(
    listing: Listing, *, min_class: str | None = None, allowed_models: Collection[str] = ()
) -> tuple[str, ...]:
    """The model slugs that `auto` chooses among; `allowed_models` empty allows all."""
    return tuple(
        slug
        for slug, model in listing.models.items()
        if is_member(model, min_class=min_class) and (not allowed_models or is_allowed(slug, allowed_models))
    )
