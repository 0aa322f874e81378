"""Invitations by e-mail: a link that is good for the holder of one address, once, for seven days.

Only an HMAC of the link's token is kept, so the newest letter is the only copy; sending again makes a new
one. Whether an address has an account already changes nothing of what is answered to whoever invites it.
"""

from __future__ import annotations

from datetime import timedelta
from smtplib import SMTPException
from typing import Any, Final

import structlog
from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import QuerySet, Sum
from django.template.loader import render_to_string
from django.utils.crypto import salted_hmac

from accounts import audit, members
from accounts.core import roles
from accounts.models import Invitation, Membership, User
from aggregator.lib import clock, ids
from aggregator.lib.errors import Refusal

log = structlog.get_logger(__name__)

LIFETIME: Final = timedelta(days=7)
TOKEN_LENGTH: Final = 40
_AGAIN_AFTER: Final = timedelta(minutes=1)
_MOST_TO_ONE: Final = 5
"""Letters that one address gets within an hour, whoever invites it."""

OPEN, ACCEPTED, REVOKED, EXPIRED = "open", "accepted", "revoked", "expired"


def invite(by: Membership, email: str, role: str) -> bool:
    """Ask an address to join, or ask it again; whether the letter was sent.

    Raises Refusal: `forbidden`, `already_member`, `too_many_invitations`.
    """
    with members.acting(by, roles.MEMBERS) as me:
        if role not in roles.gives(me.role):
            raise Refusal("forbidden", "Your role cannot give this one.", status=403, param="role")
        address = email.strip().lower()
        if Membership.objects.of(me.organization_id).filter(user__email=address).exists():
            raise Refusal("already_member", f"{address} is a member already.", param="email")
        row = waiting(me.organization_id).filter(email=address).first()
        if row is not None:
            _refuse_above(row, me)
        _refuse_too_many(me, address)
        token, now = ids.base62(TOKEN_LENGTH), clock.now()
        new: dict[str, Any] = {
            "role": role,
            "digest": _digest(token),
            "invited_by": me.user,
            "sent_at": now,
            "expires_at": now + LIFETIME,
        }
        if row is None:
            new |= {"organization": me.organization, "email": address}
            row = Invitation.objects.create(**new)
        else:
            _renew(row, **new)
        _record(row, "invitation.sent", by=me.user)
    return _send(row, token)


def send_again(by: Membership, invitation_id: int) -> bool:
    """Another letter with a new link, good for seven days from now; the older link is good no longer.

    Raises Refusal: `forbidden`, `unknown_invitation`, `too_many_invitations`.
    """
    with members.acting(by, roles.MEMBERS) as me:
        row = _waiting_row(me, invitation_id)
        _refuse_too_many(me, row.email)
        if clock.now() - row.sent_at < _AGAIN_AFTER:
            raise _too_many("A letter went out a moment ago. Wait a minute.")
        token, now = ids.base62(TOKEN_LENGTH), clock.now()
        _renew(row, digest=_digest(token), sent_at=now, expires_at=now + LIFETIME)
        _record(row, "invitation.sent", by=me.user)
    return _send(row, token)


def revoke(by: Membership, invitation_id: int) -> Invitation:
    """Take an invitation back. Raises Refusal: `forbidden`, `unknown_invitation`."""
    with members.acting(by, roles.MEMBERS) as me:
        row = _waiting_row(me, invitation_id)
        row.revoked_at = clock.now()
        row.save(update_fields=["revoked_at"])
        _record(row, "invitation.revoked", by=me.user)
    return row


def accept(invitation: Invitation, user: User) -> Membership:
    """Join. Raises Refusal: `invitation_expired`, `…_revoked`, `…_accepted`, or `another_address`."""
    with transaction.atomic():
        members.lock(invitation.organization_id)
        row = Invitation.objects.of(invitation.organization_id).select_related("organization")
        held = row.get(pk=invitation.pk)
        if (found := state(held)) != OPEN:
            raise Refusal(f"invitation_{found}", f"This invitation is {found}.", status=410)
        if not is_for(held, user):
            raise Refusal("another_address", "This invitation is for another address.", status=403)
        held.accepted_at = clock.now()
        held.save(update_fields=["accepted_at"])
        member = Membership.objects.of(held.organization_id).filter(user=user).first()
        if member is None:
            member = members.add(held.organization, user, held.role)
            _record(held, "member.joined", by=user)
    return member


def state(invitation: Invitation) -> str:
    """OPEN, ACCEPTED, REVOKED or EXPIRED."""
    if invitation.accepted_at is not None:
        return ACCEPTED
    if invitation.revoked_at is not None:
        return REVOKED
    return OPEN if invitation.expires_at > clock.now() else EXPIRED


def is_for(invitation: Invitation, user: User) -> bool:
    """Whether this person has proven that the invited address is theirs."""
    mine = EmailAddress.objects.filter(user=user, email__iexact=invitation.email, verified=True)
    return bool(mine.exists())


def waiting(organization_id: int) -> QuerySet[Invitation]:
    """Neither accepted nor revoked; some may have expired."""
    return Invitation.objects.of(organization_id).filter(accepted_at=None, revoked_at=None)


def by_token(token: str) -> Invitation | None:
    """The invitation that a link opens, whatever has become of it."""
    rows = Invitation.unscoped.select_related("organization", "invited_by")
    return rows.filter(digest=_digest(token)).first()


def remembered(invitation_id: int | None, email: str) -> Invitation | None:
    """The invitation of this address whose link a session has opened, whatever has become of it."""
    return Invitation.unscoped.filter(pk=invitation_id or 0, email=email).first()


def _digest(token: str) -> bytes:
    return salted_hmac("accounts.invitations", token, algorithm="sha256").digest()


def _waiting_row(me: Membership, invitation_id: int) -> Invitation:
    row = waiting(me.organization_id).select_related("organization").filter(pk=invitation_id).first()
    if row is None:
        raise Refusal("unknown_invitation", "This invitation does not wait any more.", status=404)
    _refuse_above(row, me)
    return row


def _refuse_above(row: Invitation, me: Membership) -> None:
    if row.role not in roles.gives(me.role):
        raise Refusal("forbidden", "Only an owner looks after invitations of owners.", status=403)


def _renew(row: Invitation, **values: Any) -> None:
    for name, value in values.items():
        setattr(row, name, value)
    row.times_sent += 1
    row.save(update_fields=[*values, "times_sent"])


def _record(row: Invitation, verb: str, *, by: User) -> None:
    audit.record(row.organization_id, verb, by=by, object=row.email, detail={"role": row.role})


def _refuse_too_many(me: Membership, address: str) -> None:
    """Letters go to people who did not ask for them; the caller holds the lock, so the count is the truth.

    One address hears from all organizations together only so often, and one person writes only so often
    for all of theirs, or who opens many could bury an address in letters of ours.
    """
    lately = Invitation.unscoped.filter(sent_at__gt=clock.now() - timedelta(hours=1))
    if _letters(lately.filter(email=address)) >= _MOST_TO_ONE:
        raise _too_many("This address was written to several times within the hour. Wait a while.")
    most = settings.INVITATIONS_PER_HOUR
    ours = lately.filter(organization_id=me.organization_id)
    if max(_letters(ours), _letters(lately.filter(invited_by=me.user))) >= most:
        raise _too_many(f"At most {most} invitations are sent in an hour.")


def _letters(rows: QuerySet[Invitation]) -> int:
    return int(rows.aggregate(sent=Sum("times_sent"))["sent"] or 0)


def _too_many(message: str) -> Refusal:
    return Refusal("too_many_invitations", message, status=429, retry_after=60)


def _send(row: Invitation, token: str) -> bool:
    """No transaction is open meanwhile, and the token waits in no queue."""
    text = render_to_string(
        "emails/invitation.txt",
        {
            "invitation": row,
            "organization": " ".join(row.organization.name.split()),
            "by": row.invited_by,
            "url": f"{settings.PUBLIC_URL}/invitations/{token}",
        },
    ).strip()
    subject, _, body = text.partition("\n")
    try:
        send_mail(subject.strip(), body.strip() + "\n", None, [row.email])
    except (OSError, SMTPException) as error:
        log.error("invitation not sent", invitation=row.pk, error=type(error).__name__)
        return False
    return True
