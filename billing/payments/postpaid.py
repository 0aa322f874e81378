"""Who pays afterwards: the month is invoiced after its end, and the wallet is credited when that is paid.

What is owed is the balance at the month's end: usage by the month whose bill it is on, all else by when it
was booked, without what earlier invoices ask for already. A month is invoiced once; its row is committed
before Stripe is called, and every idempotency key comes from it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, Sum

from accounts.models import Organization
from aggregator.lib import clock
from billing import alerts, freezing, ledger, letters, rebates, reloads
from billing.core import chart, invoice_lines
from billing.core.invoice_lines import Line, Used
from billing.core.money import Nanos, nanos_of_cents, show_usd, whole_cents
from billing.models import AgreedTerms, BilledUsage, Customer, Document, MonthClose, Posting, StripeInvoice
from billing.payments import collected, customers
from billing.stretches import bounds
from billing.stripe_client import invoices
from billing.stripe_client.door import StripeRefused, StripeUnreachable
from billing.stripe_client.invoices import InvoiceThere

log = structlog.get_logger(__name__)

LEAST_CENTS = 50
"""Stripe charges no less; what is owed below it is carried over."""
_KEYS_ARE_KEPT = timedelta(hours=23)
_UNSENT = (StripeInvoice.State.CREATED, StripeInvoice.State.DRAFT)
_PAID = ("invoice_paid", "invoice_paid_elsewhere")
_UNPAID = (StripeInvoice.State.OPEN, StripeInvoice.State.UNCOLLECTIBLE)

_BALANCE_AT_THE_END = """
SELECT wallet.balance_nanos
  + coalesce((SELECT sum(charge_nanos) FROM billing_billedusage
              WHERE organization_id = %(organization)s AND month > %(first)s), 0)::bigint
  - coalesce((SELECT sum(entry.nanos) FROM billing_posting AS posting
              JOIN billing_entry AS entry ON entry.posting_id = posting.id
              JOIN billing_account AS account ON account.id = entry.account_id
              WHERE posting.organization_id = %(organization)s AND posting.kind <> 'usage'
                AND account.kind = 'wallet'
                AND CASE WHEN posting.kind IN ('rebate', 'monthly_fee')
                         THEN split_part(posting.source_id, ':', 2) > %(month)s
                         ELSE posting.created_at >= %(until)s END), 0)::bigint
FROM billing_wallet AS wallet WHERE wallet.organization_id = %(organization)s
"""


def invoice_month(month: date) -> int:
    """Close the month and invoice everybody who pays afterwards; how many invoices went out now.

    Safe to repeat and to run twice at once. Raises `rebates.NotClosable`.
    """
    rebates.close_month(month)
    for terms in paying_afterwards(month):
        write_down(terms, month)
    sent = 0
    unsent = StripeInvoice.unscoped.filter(purpose=StripeInvoice.Purpose.POSTPAID, state__in=_UNSENT)
    for row in unsent.order_by("?"):
        try:
            sent += _send(row)
        except StripeUnreachable as error:
            log.warning("Stripe is away; the rest waits", invoice=str(row.pk), error=str(error))
            break
        except StripeRefused as error:
            collected.tell(row, f"Stripe refuses the invoice of {row.month:%B %Y}: {error}")
    return sent


def refresh(invoice_id: str) -> str:
    """Fetch an invoice and apply what it says now; words for the inbox.

    Raises StripeUnreachable, StripeRefused.
    """
    row = StripeInvoice.unscoped.filter(stripe_id=invoice_id, purpose=StripeInvoice.Purpose.POSTPAID).first()
    if row is None:
        return "not an invoice of ours"
    for _ in range(customers.TRIES):
        was = Customer.objects.of(row.organization_id).get()
        # Nothing is locked meanwhile: Stripe may take its time.
        there = invoices.retrieve(invoice_id)
        by_bank = there.paid_elsewhere_cents == there.paid_cents
        moved = there.status == "paid" and row.paid_at is None and not by_bank
        paid_by = invoices.payment(there.id) if moved else ("", "")
        with transaction.atomic():
            customer = customers.still(was)
            if customer is None:
                continue
            row.refresh_from_db()
            return _take(row, there, str(customer.stripe_id), (_PAID[1] if by_bank else _PAID[0], paid_by))
    raise StripeUnreachable(f"{invoice_id} is looked at by too many at once")


def check_overdue() -> int:
    """Look at invoices that nobody paid in time; how many there are."""
    late = StripeInvoice.unscoped.filter(
        purpose=StripeInvoice.Purpose.POSTPAID, state__in=_UNPAID, due_at__lte=clock.now() - _grace()
    )
    found = [str(stripe_id) for stripe_id in late.order_by("?").values_list("stripe_id", flat=True)]
    for invoice_id in found:
        try:
            refresh(invoice_id)
        except StripeUnreachable as error:
            log.warning("Stripe is away; the rest waits", invoice=invoice_id, error=str(error))
            break
        except StripeRefused as error:
            log.warning("invoice not looked at", invoice=invoice_id, error=str(error))
    return len(found)


# ── What is owed ─────────────────────────────────────────────────────────────────────────────────


def paying_afterwards(month: date) -> list[AgreedTerms]:
    """The terms of everybody who paid afterwards when the month ended."""
    until = bounds(month)[1]
    ever = AgreedTerms.unscoped.filter(postpaid=True, starts_at__lt=until).values("organization_id")
    newest = AgreedTerms.unscoped.filter(organization_id__in=ever, starts_at__lt=until)
    rows = newest.order_by("organization_id", "-version").distinct("organization_id")
    return [row for row in rows if row.postpaid]


def write_down(terms: AgreedTerms, month: date) -> None:
    """The fee, and the invoice's row if something is owed: once, whoever runs beside us. A month that a later
    invoice asks for already, or that has its document, stays as it is; one with usage waits for its close."""
    organization = Organization.objects.get(pk=terms.organization_id)
    source_id = f"{organization.public_id}:{month:%Y-%m}"
    with transaction.atomic():
        ledger.lock_wallets({organization.pk})
        if StripeInvoice.objects.of(organization).filter(month__gte=month).exists():
            return
        if Document.objects.of(organization).filter(month__gte=month, corrects=None).exists():
            return
        if rebates.bills_wait(organization.pk, month):
            return
        if (
            terms.monthly_nanos
            and not Posting.objects.filter(kind="monthly_fee", source_id=source_id).exists()
        ):
            ledger.post(
                "monthly_fee",
                source_id,
                entries={
                    (chart.WALLET, organization.pk): -terms.monthly_nanos,
                    (chart.SUBSCRIPTION_REVENUE, None): terms.monthly_nanos,
                },
                organization_id=organization.pk,
                source="month",
                note=f"Fee of {month:%B %Y}",
            )
            reloads.after_commit(organization.public_id)
        cents = whole_cents(max(owed(organization.pk, month), 0))
        if cents >= LEAST_CENTS:
            StripeInvoice.objects.create(
                organization=organization,
                purpose=StripeInvoice.Purpose.POSTPAID,
                month=month,
                cents=cents,
                lines=_lines(organization.pk, month, terms.monthly_nanos, cents),
                days_until_due=terms.days_until_due,
                created_at=clock.now(),
            )


def owed(organization_id: int, month: date) -> Nanos:
    """What is owed for the month and all before it, and is on no invoice yet; below zero is credit."""
    until = bounds(month)[1]
    with connection.cursor() as cursor:
        cursor.execute(
            _BALANCE_AT_THE_END,
            {"organization": organization_id, "first": month, "until": until, "month": f"{month:%Y-%m}"},
        )
        (balance,) = cursor.fetchone()
    return -int(balance) - nanos_of_cents(_asked_before(organization_id, month, until))


def _asked_before(organization_id: int, month: date, until: datetime) -> int:
    """The cents of earlier invoices that the balance at the end does not hold as paid."""
    rows = StripeInvoice.objects.of(organization_id).filter(
        purpose=StripeInvoice.Purpose.POSTPAID, month__lt=month
    )
    paid = Posting.objects.filter(
        kind__in=_PAID, organization_id=organization_id, created_at__lt=until
    ).values("source_id")
    open_then = rows.exclude(state=StripeInvoice.State.VOID).filter(
        Q(stripe_id=None) | ~Q(stripe_id__in=paid)
    )
    return open_then.aggregate(cents=Sum("cents"))["cents"] or 0


def _lines(organization_id: int, month: date, fee: Nanos, cents: int) -> list[Line]:
    rows = (
        BilledUsage.objects.of(organization_id)
        .filter(month=month)
        .values("model")
        .annotate(calls=Sum("requests"), nanos=Sum("charge_nanos"))
    )
    used = [Used(row["model"], row["calls"], row["nanos"]) for row in rows]
    closed = MonthClose.objects.of(organization_id).filter(month=month).first()
    rebate = 0 if closed is None else closed.rebate_nanos
    found = invoice_lines.lines(used, fee=fee, rebate=rebate, cents=cents)
    return invoice_lines.without_discounts(found) if settings.STRIPE_TAX else found


# ── At Stripe ────────────────────────────────────────────────────────────────────────────────────


def _send(row: StripeInvoice) -> bool:
    """Make the invoice of a row at Stripe, finish it and ask for its money; whether it went out now."""
    there = invoices.retrieve(row.stripe_id) if row.stripe_id else _made(row)
    if there.status == "draft":
        there = _filled(row, there)
        if there.net_cents != row.cents:
            collected.tell(row, f"{there.id} comes to {there.net_cents} cents instead of {row.cents}")
            return False
        there = invoices.finalize(there.id, key=f"invoice-{row.pk}-finalize")
    refused = False
    if there.status == "open" and not row.days_until_due:
        try:
            invoices.pay(there.id, key=f"invoice-{row.pk}-pay")
        except StripeRefused as error:
            # Declined, no card, or paid meanwhile: what it says now tells, and Stripe goes on collecting.
            log.info("invoice not paid at once", invoice=there.id, error=str(error))
            refused = True
    refresh(there.id)
    row.refresh_from_db()
    if refused and row.state == StripeInvoice.State.OPEN:
        _tell_of_failure(row, there)  # without any card Stripe counts no attempt, and nobody would hear of it
    return True


def _made(row: StripeInvoice) -> InvoiceThere:
    """The draft of this row, found when an earlier call made it whose answer we never heard."""
    organization = Organization.objects.get(pk=row.organization_id)
    customer = customers.ensure(organization, email=customers.email(organization, "postpaid"))
    marks = {"organization": organization.public_id, "invoice": str(row.pk)}
    there = None
    if clock.now() - row.created_at > _KEYS_ARE_KEPT:
        known = invoices.of_customer(customer)
        there = next((each for each in known if each.metadata.get("invoice") == str(row.pk)), None)
    if there is None:
        there = invoices.create(
            customer=customer,
            says=f"Usage in {row.month:%B %Y} (UTC)",
            marks=marks,
            days_until_due=row.days_until_due,
            taxed=settings.STRIPE_TAX,
            key=f"invoice-{row.pk}-create",
        )
    row.stripe_id, row.state = there.id, StripeInvoice.State.DRAFT
    row.save(update_fields=["stripe_id", "state"])
    return there


def _filled(row: StripeInvoice, there: InvoiceThere) -> InvoiceThere:
    """The draft with its lines. A draft that holds some of them for longer than keys last, a person mends."""
    old = clock.now() - row.created_at > _KEYS_ARE_KEPT
    if there.net_cents == row.cents or (old and there.total_cents):
        return there
    for start in range(0, len(row.lines), invoices.MOST_LINES):
        some = [(says, cents) for says, cents in row.lines[start : start + invoices.MOST_LINES]]
        there = invoices.add_lines(there.id, some, key=f"invoice-{row.pk}-lines-{start}")
    return there


def _take(row: StripeInvoice, there: InvoiceThere, customer: str, paid: tuple[str, tuple[str, str]]) -> str:
    """Apply what Stripe says; `paid`: as which kind of posting a payment is booked, and who paid."""
    strange = _strange(row, there, customer)
    if strange:
        return collected.tell(row, strange)
    if row.paid_at is None:
        row.tax_cents = there.tax_cents
        collected.note(row, there)
        if there.status == "paid":
            kind, paid_by = paid
            collected.book(kind, row, there, paid_by)
        elif there.status == "open" and there.attempts:
            _tell_of_failure(row, there)
    _freeze_or_thaw(row)
    return f"{row.month:%B %Y} is {row.state}"


def _strange(row: StripeInvoice, there: InvoiceThere, customer: str) -> str:
    if there.status in ("draft", "void"):
        return ""
    if there.net_cents != row.cents or there.due_cents != there.total_cents:
        return f"{there.id} asks for {there.due_cents} cents of {there.net_cents}, ours for {row.cents}"
    if there.status != "paid":
        return ""
    if there.paid_elsewhere_cents == there.paid_cents:  # an operator has seen the money at our bank
        there = replace(there, paid_elsewhere_cents=0)
    return collected.oddity(there, customer, [row.cents])


def _tell_of_failure(row: StripeInvoice, there: InvoiceThere) -> None:
    letters.write(
        row.organization_id,
        "invoice_unpaid",
        there.id,
        context={
            "month": f"{row.month:%B %Y}",
            "amount": show_usd(nanos_of_cents(there.due_cents)),
            "until": f"{(row.due_at or clock.now()) + _grace():%-d %B %Y, %H:%M} UTC",
            "pay_url": there.hosted_url,
        },
    )


def _freeze_or_thaw(row: StripeInvoice) -> None:
    """No calls while an invoice is overdue beyond the grace; calls again when none is."""
    owing = StripeInvoice.objects.of(row.organization_id).filter(
        purpose=StripeInvoice.Purpose.POSTPAID, state__in=_UNPAID, due_at__lte=clock.now() - _grace()
    )
    late = owing.order_by("due_at").first()
    if row.paid_at is not None or row.state == StripeInvoice.State.VOID:
        alerts.resolve("unpaid", str(row.stripe_id))
    if late is None:
        freezing.thaw(row.organization_id, "unpaid", by="stripe")
    elif freezing.freeze(row.organization_id, "unpaid", by="stripe", note=str(late.stripe_id)):
        says = f"{late.stripe_id} of {late.month:%B %Y} is overdue: its organization is frozen"
        alerts.raise_alert("unpaid", str(late.stripe_id), says, organization_id=row.organization_id)


def _grace() -> timedelta:
    return timedelta(days=settings.BILLING_GRACE_DAYS)
