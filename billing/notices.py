"""What of our own troubles concerns customers, in their words; the rest of the alerts is the operators'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from aggregator.lib import clock
from billing import alerts
from billing.models import Spool

_LATE = "Calls appear late in the activity and in the balance. What they cost does not change."
_PAYMENTS = "Payments are credited later than usual. None is lost."
_LETTERS = "E-mail is sent later than usual."
_WORDS: Mapping[tuple[str, str], str] = {
    ("backlog", "generations"): _LATE,
    ("silence", "billing.post_generations"): _LATE,
    ("backlog", "stripe_events"): _PAYMENTS,
    ("silence", "billing.handle_waiting_events"): _PAYMENTS,
    ("silence", "billing.settle_payments"): _PAYMENTS,
    ("stripe_away", "events"): _PAYMENTS,
    ("backlog", "letters"): _LETTERS,
    ("silence", "billing.send_mail"): _LETTERS,
    ("silence", "billing.top_up_wallets"): "Automatic top-ups are made later than usual.",
    ("silence", "billing.look_at_budgets"): "Alerts of budgets are sent later than usual.",
}
"""(kind, subject) of an alert → what a customer notices of it."""
_SEEN_SECONDS = 120
"""A gateway says every half minute that it lives."""


@dataclass(frozen=True, slots=True)
class Notice:
    words: str
    since: datetime


def open_now() -> list[Notice]:
    """Each once, from when the first of its causes began."""
    found: dict[str, datetime] = {}
    for alert in alerts.open_alerts():
        words = _WORDS.get((alert.kind, alert.subject))
        if words is not None:
            found[words] = min(found.get(words, alert.raised_at), alert.raised_at)
    return [Notice(words, since) for words, since in sorted(found.items(), key=lambda item: item[1])]


def gateways() -> int:
    """How many gateway processes have said lately that they live."""
    now = clock.now()
    told = Spool.objects.values_list("seen_at", flat=True)
    return sum((now - seen_at).total_seconds() < _SEEN_SECONDS for seen_at in told)
