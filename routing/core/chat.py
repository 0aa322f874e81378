"""A chat request in the gateway's own words: what the selector and the gate need to know of it.

The customer's fields stay untouched in `body`; a retry for another target needs them again, so
nothing here is ever mutated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from routing.core.preferences import ANY, Preferences

PREFERENCES = ("balanced", "speed", "cost")
MOST_CHOICES = 16
MOST_MODELS = 16


class Chat(msgspec.Struct, frozen=True):
    model: str
    """As the customer wrote it: `auto`, `author/slug`, or a bare slug."""
    stream: bool
    prompt_tokens: int
    """Estimated, and rather too many than too few."""
    max_tokens: int | None = None
    """The customer's bound on completion tokens, if any; for each of `choices`."""
    choices: int = 1
    preference: str | None = None
    """One of PREFERENCES, or None when the customer stated none."""
    fallback_models: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()
    """Capabilities that the request cannot do without: `tools`, `vision`, `json_schema`."""
    min_class: str | None = None
    allowed_models: tuple[str, ...] = ()
    """What `auto` may choose among for this request; a `*` at an end stands for any. Empty allows all."""
    providers: Preferences = ANY
    parameters: frozenset[str] = frozenset()
    """The request's own fields that an endpoint may or may not honour."""
    continued: bool = False
    """It carries an answer already, so that its beginning may be in a provider's cache."""
    conversation: bytes = b""
    """Tells conversations apart, for a warm prompt cache; empty when the request is none."""
    free_only: bool = False
    """The variant `:free`: only endpoints that cost nothing."""
    max_cost_nanos: int | None = None
    timeout_seconds: float | None = None
    """The customer's own deadline for the whole call: what it costs until then is charged."""
    num_retries: int | None = None
    """How many failed attempts may be followed by another; None leaves it to us."""
    end_user: str = ""
    """Whom the customer names as the user of the call; empty is nobody."""
    show_route: bool = False
    """The customer asked for the `route` object in the answer."""
    body: Mapping[str, Any] = msgspec.field(default_factory=dict)
