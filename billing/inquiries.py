"""What people write to us from the contact page: kept, then mailed to the operators, who answer by mail."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.core.mail import EmailMessage

from aggregator.lib import clock, jobs
from billing.models import Inquiry

SPENDS = ("under $1,000", "$1,000 to $10,000", "$10,000 to $100,000", "over $100,000")
"""What a month may come to, as the page asks."""
_GIVEN_UP_AFTER = timedelta(days=14)


def ask(
    *,
    name: str,
    email: str,
    text: str,
    company: str = "",
    spend: str = "",
    organization_id: int | None = None,
) -> Inquiry:
    """Keep it; the mail follows by a job."""
    row = Inquiry.objects.create(
        name=name, email=email, text=text, company=company, spend=spend, organization_id=organization_id
    )
    jobs.enqueue("billing.send_inquiry", inquiry=str(row.pk))
    return row


def send(inquiry_id: str) -> bool:
    """Mail one that was not mailed; whether it was. Raises OSError or SMTPException when mail is down."""
    if not settings.OPERATOR_EMAILS:
        return False
    with jobs.alone(f"inquiry {inquiry_id}") as mine:
        row = Inquiry.objects.filter(pk=inquiry_id, sent_at=None).first() if mine else None
        if row is None:
            return False
        EmailMessage(
            subject=f"[Fairlead] {_line(row.company or row.name)} asks"[:200],
            body=_body(row),
            to=list(settings.OPERATOR_EMAILS),
            reply_to=[row.email],
        ).send()
        row.sent_at = clock.now()
        row.save(update_fields=["sent_at"])
    return True


def send_waiting() -> int:
    """Mail what waits; how many were mailed."""
    rows = Inquiry.objects.filter(sent_at=None, created_at__gt=clock.now() - _GIVEN_UP_AFTER)
    return sum(send(str(pk)) for pk in rows.order_by("created_at").values_list("pk", flat=True)[:100])


def _body(row: Inquiry) -> str:
    organization = row.organization.slug if row.organization else "none, not signed in"
    lines = [
        f"Name: {_line(row.name)}",
        f"E-mail: {row.email}",
        f"Company: {_line(row.company)}",
        f"Expected spend a month: {row.spend or 'not said'}",
        f"Organization: {organization}",
    ]
    return "\n".join(lines) + f"\n\n{row.text}\n\n{settings.PUBLIC_URL}/admin/billing/inquiry/{row.pk}/\n"


def _line(text: str) -> str:
    """What somebody typed, on one line: a header holds no more."""
    return " ".join(text.split())
