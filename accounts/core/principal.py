"""Who is asking: the frozen value that crosses from `accounts` into the rest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DataPolicy:
    """Which providers may see what an organization sends. A request can narrow it, never widen it."""

    no_training: bool = False
    """Only those that are known not to train on it."""
    zero_retention: bool = False
    """Only those that are known to keep nothing of it."""
    only: frozenset[str] | None = None
    """Slugs of the providers that may; None is all."""
    ignore: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Logging:
    """What of a key's calls is logged, and under which of the organization's log keys."""

    log_key_id: int
    request: bool
    reply: bool


@dataclass(frozen=True, slots=True)
class Budgets:
    """In which windows an organization's budgets limit the calls of a key; how high they are, the gate knows.

    A window is `day`, `week`, `month` or `total`.
    """

    version: int
    """Of all budgets of the organization. It changes with the versions of all its keys."""
    organization: tuple[str, ...] = ()
    member: tuple[str, ...] = ()
    """Of the member who made the key."""
    end_user: tuple[str, ...] = ()
    """Of calls that name a user."""


@dataclass(frozen=True, slots=True)
class Principal:
    """One key of one organization, as it stood at `key_version`.

    The gate compares `key_version` at every admission, so a change of the key is in force at once
    on every worker, however long this value is cached.
    """

    organization_id: int
    organization: str
    """The public id, part of the key's text: names the shard before any look-up."""
    key_id: int
    key: str
    """The key's public id, `key_…`; budgets and rate limits belong to it, not to one of its secrets."""
    key_version: int
    scope: str
    """`inference` or `management`: a row of `accounts.core.roles.SCOPES`."""
    name: str = ""
    expires_at: float | None = None
    """Unix seconds; None never expires. The earlier of the key's expiry and its secret's."""
    requests_per_minute: int | None = None
    limit_nanos: int | None = None
    limit_window: str = "total"
    """`total`, `day`, `week` or `month` (UTC; weeks begin on Monday)."""
    allowed_models: frozenset[str] = frozenset()
    """`author/slug` ids; empty allows all."""
    policy: DataPolicy | None = None
    """Of the organization. It changes with the versions of all its keys; None allows every provider."""
    logging: Logging | None = None
    """None: nothing of its calls is logged."""
    member_id: int | None = None
    """The person who made the key."""
    budgets: Budgets | None = None
    """Of the organization, beside the key's own limit; None: there are none for its calls."""
