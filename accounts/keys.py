"""API keys: create, change, rotate, disable, delete; and tell whose key a text is.

Only an HMAC of a key is stored, and the key is returned once. Every change raises the key's version
in its own transaction, is audited there, and is published to the gate right after the commit.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from kombu.exceptions import OperationalError as BrokerUnreachable

from accounts import audit, keyring, privacy
from accounts.core import limits, roles, tokens
from accounts.core.principal import Principal
from accounts.models import Key, KeySecret, Organization, User
from aggregator.lib import clock, ids, jobs, kv
from aggregator.lib.errors import Refusal

log = structlog.get_logger(__name__)

OVERLAPS: Final = {
    0: "at once",
    1: "after 1 hour",
    24: "after 24 hours",
    24 * 7: "after 7 days",
}
"""How long the older secret of a rotated key may go on working: hours → words."""
OVERLAP_MOST: Final = timedelta(days=7)

CHANGEABLE: Final = (
    "name",
    "expires_at",
    "limit_nanos",
    "limit_window",
    "requests_per_minute",
    "allowed_models",
)
_USED_EVERY: Final = timedelta(minutes=1)
_NO_DIGEST: Final = bytes(32)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def create(
    organization: Organization, *, name: str, by: audit.Actor, scope: str = roles.INFERENCE, **limited: Any
) -> tuple[Key, str]:
    """Make a key, and return it with its text, which cannot be had again.

    `limited` takes the other fields of CHANGEABLE. A key never creates a management key: only a
    person whose role allows it, or the system, does.
    """
    if scope not in roles.SCOPES:
        raise _wrong("scope", f"must be one of {', '.join(roles.SCOPES)}")
    if isinstance(by, Principal) and scope != roles.INFERENCE:
        raise Refusal(
            "forbidden_scope", "A key cannot create a key that may do more than call models.", status=403
        )
    with transaction.atomic():
        key = _insert(organization, {"name": name, **limited}, by=by, scope=scope)
        return key, add_secret(key)


def create_for_playground(organization: Organization, person: User, *, name: str, **limited: Any) -> Key:
    """The key with which a person uses the playground: without a text until `add_secret` gives it one."""
    return _insert(organization, {"name": name, **limited}, by=person, is_playground=True)


def add_secret(key: Key, *, expires_at: datetime | None = None) -> str:
    """One more text that opens the key, which cannot be had again. The older ones stay as they are."""
    text = tokens.make(key.scope, key.organization.public_id)
    shown = tokens.shown(text)
    KeySecret.objects.create(
        key=key,
        digest=tokens.digest(text, settings.KEY_PEPPER),
        prefix=shown.prefix,
        last4=shown.last4,
        expires_at=expires_at,
    )
    return text


def update(key: Key, *, by: audit.Actor, disabled: bool | None = None, **changes: Any) -> Key:
    """Change any of CHANGEABLE, and whether it is disabled. Nothing different is nothing done."""
    values = _checked(changes)
    if disabled is not None:
        values["state"] = (Key.State.DISABLED if disabled else Key.State.ACTIVE).value

    def change(held: Key) -> dict[str, Any]:
        return {name: value for name, value in values.items() if getattr(held, name) != value}

    return _change(key, "key.changed", by=by, change=change)


def disable(key: Key, *, by: audit.Actor) -> Key:
    """Refuse the key from now on, until it is enabled again."""
    return _change(key, "key.disabled", by=by, change=lambda held: _to(held, Key.State.DISABLED))


def enable(key: Key, *, by: audit.Actor) -> Key:
    """Let a disabled key work again."""
    return _change(key, "key.enabled", by=by, change=lambda held: _to(held, Key.State.ACTIVE))


def delete(key: Key, *, by: audit.Actor) -> Key:
    """Refuse the key for ever. Its row stays, because past calls are billed to it."""
    return _change(key, "key.deleted", by=by, change=lambda held: _to(held, Key.State.DELETED))


def rotate(key: Key, *, by: audit.Actor, overlap: timedelta = timedelta(hours=24)) -> str:
    """Give the key a new text and return it. The older ones work until `overlap` is over.

    Budgets, limits and the activity stay with the key, whichever text is used.
    """
    if not timedelta(0) <= overlap <= OVERLAP_MOST:
        raise _wrong("overlap", "must lie between nothing and seven days")
    with transaction.atomic():
        held = _locked(key)
        now = clock.now()
        KeySecret.objects.filter(Q(expires_at=None) | Q(expires_at__gt=now + overlap), key=held).update(
            expires_at=now + overlap
        )
        text = add_secret(held)
        held.version += 1
        held.save(update_fields=["version"])
        audit.record(
            held.organization_id,
            "key.rotated",
            by=by,
            object=held.public_id,
            detail={"overlap_seconds": int(overlap.total_seconds()), "last4": text[-4:]},
        )
        _publish_after_commit(held)
    key.version = held.version
    return text


def check(text: str) -> None:
    """Refuse a text that is no whole key, by its shape and checksum, without a look-up."""
    try:
        tokens.parse(text)
    except ValueError as error:
        raise _refused("malformed_key", "This is not a whole API key. Was it cut or mistyped?") from error


def principal(text: str) -> Principal:
    """Tell whose key this is, or refuse with a type of its own for each reason.

    Unknown, revoked, disabled and expired keys take the same steps, so that their times are alike.
    """
    check(text)
    digest = tokens.digest(text, settings.KEY_PEPPER)
    secret = KeySecret.objects.select_related("key__organization").filter(digest=digest).first()
    same = hmac.compare_digest(bytes(secret.digest) if secret else _NO_DIGEST, digest)
    if secret is None or not same:
        raise _refused("unknown_key", "No such API key.")
    key, now = secret.key, clock.now()
    if key.state == Key.State.DELETED or (secret.expires_at is not None and secret.expires_at <= now):
        raise _refused("revoked_key", "This API key was deleted or replaced by a newer one.")
    if key.state == Key.State.DISABLED:
        raise _refused("disabled_key", "This API key is disabled. Enable it on the keys page.")
    if key.expires_at is not None and key.expires_at <= now:
        raise _refused("expired_key", "This API key has expired.")
    if key.last_used_at is None or key.last_used_at < now - _USED_EVERY:
        Key.unscoped.filter(pk=key.pk).update(last_used_at=now)
    return _principal_of(secret)


def flag_exposed(text: str) -> bool:
    """Mark the key whose text was seen where it must not be. Says whether the text was a real key."""
    secret = (
        KeySecret.objects.select_related("key")
        .filter(digest=tokens.digest(text, settings.KEY_PEPPER))
        .first()
    )
    if secret is None:
        return False
    with transaction.atomic():
        if Key.unscoped.filter(pk=secret.key_id, exposed_at=None).update(exposed_at=clock.now()):
            audit.record(
                secret.key.organization_id,
                "key.exposed",
                by="exposure",
                object=secret.key.public_id,
                detail={"last4": secret.last4},
            )
    return True


def _principal_of(secret: KeySecret) -> Principal:
    key = secret.key
    ends = [moment.timestamp() for moment in (key.expires_at, secret.expires_at) if moment is not None]
    return Principal(
        organization_id=key.organization_id,
        organization=key.organization.public_id,
        key_id=key.pk,
        key=key.public_id,
        key_version=key.version,
        scope=key.scope,
        name=key.name,
        expires_at=min(ends, default=None),
        requests_per_minute=key.requests_per_minute,
        limit_nanos=key.limit_nanos,
        limit_window=key.limit_window,
        allowed_models=frozenset(key.allowed_models),
        # Asked for after the key was read: a policy that changes in between leaves an old version.
        policy=privacy.policy(key.organization_id),
        logging=privacy.logging(key.organization_id, key.pk),
        member_id=key.created_by_id,
    )


def _insert(
    organization: Organization,
    values: dict[str, Any],
    *,
    by: audit.Actor,
    scope: str = roles.INFERENCE,
    is_playground: bool = False,
) -> Key:
    """The row of a new key, audited, its version published."""
    checked = _checked(values)
    with transaction.atomic():
        key: Key = Key.objects.create(  # type: ignore[misc]  # the plugin takes **values for `name`
            **checked,
            organization=organization,
            public_id=f"key_{ids.base62(16)}",
            scope=scope,
            is_playground=is_playground,
            created_by=by if isinstance(by, User) else None,
        )
        detail = {"scope": scope, **_plain(checked)}
        audit.record(organization, "key.created", by=by, object=key.public_id, detail=detail)
        _publish_after_commit(key)
    return key


def _locked(key: Key) -> Key:
    # The organization before its keys, as who changes all of them holds both: the audit log names it, too.
    Organization.objects.select_for_update(no_key=True).get(pk=key.organization_id)
    held = Key.objects.of(key.organization_id).select_for_update().get(pk=key.pk)
    if held.state == Key.State.DELETED:
        raise Refusal("deleted_key", "This key was deleted; it cannot be changed.", status=409)
    return held


def _change(key: Key, verb: str, *, by: audit.Actor, change: Callable[[Key], dict[str, Any]]) -> Key:
    """Lock the key, apply what `change` finds to be different, raise the version, audit, publish."""
    with transaction.atomic():
        held = _locked(key)
        values = change(held)
        if not values:
            return held
        before = _plain({name: getattr(held, name) for name in values})
        for name, value in values.items():
            setattr(held, name, value)
        held.version += 1
        held.save(update_fields=[*values, "version"])
        after = _plain(values)
        audit.record(
            held.organization_id,
            verb,
            by=by,
            object=held.public_id,
            detail={name: [before[name], after[name]] for name in values},
        )
        _publish_after_commit(held)
    return held


def _to(held: Key, state: Key.State) -> dict[str, Any]:
    return {} if held.state == state else {"state": state.value}


def _publish_after_commit(key: Key) -> None:
    place = (key.public_id, key.organization.public_id)
    version = key.version
    transaction.on_commit(lambda: _publish(*place, version))


def _publish(key_public_id: str, organization_public_id: str, version: int) -> None:
    try:
        keyring.publish(key_public_id, organization_public_id, version)
    except kv.Failed as error:
        # The change stands in PostgreSQL; what the gate holds is older, until the job gets through.
        log.error("key version not published", key=key_public_id, version=version, error=str(error))
        try:
            jobs.enqueue("accounts.publish_key", key=key_public_id)
        except BrokerUnreachable as lost:
            # Workers that ask PostgreSQL again (at the latest when their memory of the key ends) publish it.
            log.error("job not enqueued", job="accounts.publish_key", key=key_public_id, error=str(lost))


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """The values as they will be stored. Raises Refusal naming the first field that is wrong."""
    for name in values:
        if name not in CHANGEABLE:
            raise TypeError(f"a key has no {name!r} to change")
    return {name: _CHECKS[name](value) for name, value in values.items()}


def _name(value: str) -> str:
    name = value.strip()
    if not 1 <= len(name) <= limits.MOST_NAME or _CONTROL.search(name):
        raise _wrong("name", f"must have 1 to {limits.MOST_NAME} printable characters")
    return name


def _expires_at(value: datetime | None) -> datetime | None:
    if value is not None and value.tzinfo is None:
        raise _wrong("expires_at", "must say its time zone")
    if value is not None and value <= clock.now():
        raise _wrong("expires_at", "must lie in the future")
    return value


def _limit_nanos(value: int | None) -> int | None:
    if value is not None and not 0 <= value <= limits.MOST_NANOS:
        raise _wrong("limit", "must lie between 0 and 9007199 dollars")
    return value


def _limit_window(value: str) -> str:
    if value not in limits.WINDOWS:
        raise _wrong("limit_window", f"must be one of {', '.join(limits.WINDOWS)}")
    return value


def _requests_per_minute(value: int | None) -> int | None:
    if value is not None and not 1 <= value <= limits.MOST_REQUESTS_PER_MINUTE:
        raise _wrong("requests_per_minute", f"must lie between 1 and {limits.MOST_REQUESTS_PER_MINUTE}")
    return value


def _allowed_models(value: Iterable[str]) -> list[str]:
    models = sorted(set(value))
    if len(models) > limits.MOST_MODELS:
        raise _wrong("allowed_models", f"must name at most {limits.MOST_MODELS} models")
    for model in models:
        if not limits.MODEL_ID.fullmatch(model):
            raise _wrong("allowed_models", f"must be ids such as author/model, not {model[:80]!r}")
    return models


_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "name": _name,
    "expires_at": _expires_at,
    "limit_nanos": _limit_nanos,
    "limit_window": _limit_window,
    "requests_per_minute": _requests_per_minute,
    "allowed_models": _allowed_models,
}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Values as JSON for the audit log."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()
    }


def _refused(error_type: str, message: str) -> Refusal:
    return Refusal(error_type, message, status=401)


def _wrong(field: str, what: str) -> Refusal:
    return Refusal("invalid_request", f"{field} {what}", status=400, param=field, metadata={"reason": what})
