"""Jobs of HOW MUCH. Each carries ids only and may run twice; none piles up behind itself."""

from __future__ import annotations

from datetime import timedelta

import structlog
from celery import shared_task
from django.conf import settings

from aggregator.lib import clock, jobs
from billing import (
    alerts,
    expiry,
    flush,
    gate,
    inquiries,
    letters,
    low_credit,
    months,
    posting,
    rebates,
    reconcile,
    reloads,
    retention,
    thresholds,
    wallets,
    watch,
)
from billing.core import budgets
from billing.core.money import usd
from billing.documents import closing, issued, proofs
from billing.models import Document
from billing.payments import (
    auto_top_ups,
    inbox,
    postpaid,
    pull,
    refunds,
    stripe_books,
    subscriptions,
    top_ups,
)

log = structlog.get_logger(__name__)

_POST_SECONDS = 20
_EXPIRE_SECONDS = 50
_WAITING_SECONDS = 10
_LATELY = timedelta(hours=3)


@shared_task(name="billing.post_generations", ignore_result=True)
def post_generations() -> None:
    """Every second: post what waits. A run that finds another one at work leaves it to that one."""
    with jobs.alone("billing.post_generations") as mine:
        if mine:
            posting.post_generations(seconds=_POST_SECONDS)
            watch.ran("billing.post_generations")


@shared_task(name="billing.open_wallet", ignore_result=True)
def open_wallet(*, organization_id: int) -> None:
    wallets.open_wallet(organization_id)


@shared_task(name="billing.tell_gate", ignore_result=True)
def tell_gate() -> None:
    """Every five seconds: changes of money or terms that the gate could not be told at once."""
    told = reloads.tell_all()
    if told:
        log.warning("the gate was told late", organizations=told)


@shared_task(name="billing.make_partitions", ignore_result=True)
def make_partitions() -> None:
    """Daily: the coming months' partitions of generations."""
    for month in months.make_coming():
        log.info("partition made", month=month)


@shared_task(name="billing.drop_months", ignore_result=True, soft_time_limit=3_000, time_limit=3_300)
def drop_months() -> None:
    """Daily: months of generations that are no longer kept."""
    with jobs.alone("billing.drop_months") as mine:
        if mine:
            retention.drop_old()


@shared_task(name="billing.sweep_gate", ignore_result=True)
def sweep_gate() -> None:
    """Every half minute: holds past their lease in wallets that nobody uses."""
    gone = gate.sweep()
    if gone:
        log.warning("holds swept", holds=gone)


@shared_task(name="billing.drop_tallies", ignore_result=True)
def drop_tallies() -> None:
    """Every hour: what spools that are open were charged in windows that are long over."""
    gone = flush.drop_tallies_over(budgets.long_over(clock.now(), longest_seconds=settings.TOTAL_SECONDS))
    if gone:
        log.info("tallies dropped", tallies=gone)


@shared_task(name="billing.expire_credit", ignore_result=True)
def expire_credit() -> None:
    """Every minute: promotional credit whose time is over goes back."""
    with jobs.alone("billing.expire_credit") as mine:
        if mine:
            gone = expiry.expire_all(seconds=_EXPIRE_SECONDS)
            if gone:
                log.info("credit expired", usd=usd(gone))
            watch.ran("billing.expire_credit")


@shared_task(name="billing.check_ledger", ignore_result=True, soft_time_limit=3_000, time_limit=3_300)
def check_ledger(*, whole: bool = False) -> None:
    """Every quarter of an hour over what is new, and over everything at night."""
    name = "billing.check_whole_ledger" if whole else "billing.check_ledger"
    with jobs.alone(name) as mine:
        if not mine:
            return
        lately = clock.now() - _LATELY
        since = None if whole else lately
        findings = [*reconcile.check(since), proofs.check(since)]
        reconcile.remember(findings, lately)
    broken = reconcile.tell(findings, whole=whole)
    log.info("ledger checked", whole=whole, invariants=len(findings), broken=broken)
    watch.ran(name)


@shared_task(name="billing.check_stripe", ignore_result=True, soft_time_limit=1_500, time_limit=1_800)
def check_stripe(*, days: int = 0) -> None:
    """Every quarter of an hour over the last hours, and at night over the last days.

    While Stripe does not answer, the job fails, and its silence is told.
    """
    name = "billing.check_stripe_of_days" if days else "billing.check_stripe"
    with jobs.alone(name) as mine:
        if mine:
            since = clock.now() - (timedelta(days=days) if days else _LATELY)
            reconcile.tell([stripe_books.check(since)], whole=days > 0)
            watch.ran(name)


@shared_task(name="billing.close_month", ignore_result=True, soft_time_limit=3_000, time_limit=3_300)
def close_month() -> None:
    """Hourly in the first days of a month: close the last one, if it can be closed by now."""
    with jobs.alone("billing.close_month") as mine:
        if not mine:
            return
        try:
            closed = rebates.close_month(rebates.last_month())
        except rebates.NotClosable as reason:
            log.info("month not closed yet", reason=str(reason))
        else:
            log.info("month closed", organizations=closed)
            watch.ran("billing.close_month")


@shared_task(name="billing.end_grace", ignore_result=True)
def end_grace() -> None:
    """Hourly: plans and postpaid invoices whose payment was waited for long enough."""
    with jobs.alone("billing.end_grace") as mine:
        if mine:
            plans, bills = subscriptions.end_grace(), postpaid.check_overdue()
            watch.ran("billing.end_grace")
            log.info("grace looked at", plans=plans, invoices=bills)


@shared_task(name="billing.invoice_months", ignore_result=True)
def invoice_months() -> None:
    """Hourly: the last month of who pays afterwards, once all of it is posted."""
    with jobs.alone("billing.invoice_months") as mine:
        if not mine:
            return
        try:
            log.info("months invoiced", invoices=postpaid.invoice_month(rebates.last_month()))
        except rebates.NotClosable as reason:
            log.info("month not invoiced yet", reason=str(reason))
        watch.ran("billing.invoice_months")


@shared_task(name="billing.issue_documents", ignore_result=True, soft_time_limit=3_000, time_limit=3_300)
def issue_documents() -> None:
    """Every ten minutes: invoices of plans that were paid, and months that can be closed by now."""
    with jobs.alone("billing.issue_documents") as mine:
        if not mine:
            return
        count = closing.issue_subscriptions()
        try:
            count += closing.close_month(rebates.last_month())
        except rebates.NotClosable as reason:
            log.info("month has no documents yet", reason=str(reason))
        count += issued.tell_waiting()
        if count:
            log.info("documents issued", documents=count)
        watch.ran("billing.issue_documents")


@shared_task(name="billing.document_issued", ignore_result=True)
def document_issued(*, document: str) -> None:
    """Once for every document, after it is there; may run twice."""
    issued.tell(Document.unscoped.get(pk=document))


@shared_task(name="billing.send_letter", ignore_result=True)
def send_letter(*, letter: str) -> None:
    """Sent once, however often it is asked for; a mail server that is away leaves it to the next job."""
    letters.send(letter)


@shared_task(name="billing.send_inquiry", ignore_result=True)
def send_inquiry(*, inquiry: str) -> None:
    inquiries.send(inquiry)


@shared_task(name="billing.send_mail", ignore_result=True)
def send_mail() -> None:
    """Every minute: what operators must hear of, and what waited."""
    alerts.mail_operators()
    inquiries.send_waiting()
    letters.send_waiting()
    watch.ran("billing.send_mail")


@shared_task(name="billing.handle_event", ignore_result=True)
def handle_event(*, event: str) -> None:
    """Right after an event of Stripe came; one that fails waits for its next turn."""
    inbox.handle(event)


@shared_task(name="billing.handle_waiting_events", ignore_result=True)
def handle_waiting_events() -> None:
    """Every ten seconds: events whose job was lost, or whose pause is over.

    Each is a job of its own, so that none waits for another's error; one that nobody took in ten seconds is
    asked for again by the next run instead of lying twice in the queue.
    """
    for event in inbox.waiting():
        handle_event.apply_async(kwargs={"event": event}, expires=_WAITING_SECONDS)
    watch.ran("billing.handle_waiting_events")


@shared_task(name="billing.pull_events", ignore_result=True)
def pull_events(*, long: bool = False) -> None:
    """Every quarter of an hour over the last two hours, and at night over four days."""
    name = "billing.pull_events_of_days" if long else "billing.pull_events"
    with jobs.alone(name) as mine:
        if not mine:
            return
        if settings.STRIPE_SECRET_KEY:
            pull.pull(pull.LONG if long else pull.LATELY)
    watch.ran(name)


@shared_task(name="billing.top_up_wallets", ignore_result=True)
def top_up_wallets() -> None:
    """Every five seconds: begin the automatic top-ups that are due. Each is charged by a job of its own."""
    with jobs.alone("billing.top_up_wallets") as mine:
        if mine:
            auto_top_ups.top_up_wallets()
            watch.ran("billing.top_up_wallets")


@shared_task(name="billing.look_at_budgets", ignore_result=True)
def look_at_budgets() -> None:
    """Every half minute: thresholds that budgets have passed since the last look, and credit that ran low."""
    name = "billing.look_at_budgets"
    with jobs.alone(name) as mine:
        if not mine:
            return
        since, now = watch.noted(name), clock.now()
        passed, low = thresholds.look(since), low_credit.look(since)
        if passed or low:
            log.info("budgets looked at", thresholds=passed, low_credit=low)
        watch.ran(name, now.isoformat())


@shared_task(name="billing.charge_top_up", ignore_result=True)
def charge_top_up(*, top_up: str) -> None:
    """Charge the saved card for one automatic top-up; run twice, it is charged once."""
    log.info("automatic top-up", top_up=top_up, outcome=auto_top_ups.charge(top_up))


@shared_task(name="billing.settle_payments", ignore_result=True)
def settle_payments() -> None:
    """Every minute: what Stripe did not answer, or did not tell of, is asked for."""
    with jobs.alone("billing.settle_payments") as mine:
        if mine:
            looked = top_ups.settle() + auto_top_ups.settle() + refunds.settle()
            log.info("payments settled", looked_at=looked)
            watch.ran("billing.settle_payments")
