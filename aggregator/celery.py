"""The Celery application and its timetable; however many schedulers start, one of them ticks (`beat`)."""

from __future__ import annotations

import os

from celery import Celery
from celery.schedules import crontab

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aggregator.settings")

app = Celery("fairlead")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

app.conf.beat_schedule = {
    "post generations": {
        "task": "billing.post_generations",
        "schedule": 1.0,
        "options": {"expires": 5},
    },
    "tell the gate what it could not hear": {
        "task": "billing.tell_gate",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "sweep holds of idle wallets": {
        "task": "billing.sweep_gate",
        "schedule": 30.0,
        "options": {"expires": 30},
    },
    "drop tallies of windows that are over": {
        "task": "billing.drop_tallies",
        "schedule": crontab(minute=26),
        "options": {"expires": 3000},
    },
    "take back credit that has expired": {
        "task": "billing.expire_credit",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "check the ledger": {
        "task": "billing.check_ledger",
        "schedule": 900.0,
        "options": {"expires": 600},
    },
    "check the whole ledger": {
        "task": "billing.check_ledger",
        "schedule": crontab(hour=4, minute=41),
        "kwargs": {"whole": True},
        "options": {"expires": 3600},
    },
    "compare with Stripe's books": {
        "task": "billing.check_stripe",
        "schedule": 900.0,
        "options": {"expires": 600},
    },
    "compare with Stripe's books of the last days": {
        "task": "billing.check_stripe",
        "schedule": crontab(hour=5, minute=11),
        "kwargs": {"days": 4},
        "options": {"expires": 3600},
    },
    "end the grace of what was not paid": {
        "task": "billing.end_grace",
        "schedule": crontab(minute=7),
        "options": {"expires": 3000},
    },
    "invoice who pays afterwards": {
        "task": "billing.invoice_months",
        "schedule": crontab(minute=37),
        "options": {"expires": 3000},
    },
    "issue documents of months and plans": {
        "task": "billing.issue_documents",
        "schedule": 600.0,
        "options": {"expires": 500},
    },
    "send letters that waited, and alerts": {
        "task": "billing.send_mail",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "handle events of Stripe that wait": {
        "task": "billing.handle_waiting_events",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
    "pull events that the webhook did not bring": {
        "task": "billing.pull_events",
        "schedule": 900.0,
        "options": {"expires": 600},
    },
    "pull the events of four days": {
        "task": "billing.pull_events",
        "schedule": crontab(hour=5, minute=11),
        "kwargs": {"long": True},
        "options": {"expires": 3600},
    },
    "top up wallets that run low": {
        "task": "billing.top_up_wallets",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "tell of budgets that are used up": {
        "task": "billing.look_at_budgets",
        "schedule": 30.0,
        "options": {"expires": 30},
    },
    "settle payments that nobody answered": {
        "task": "billing.settle_payments",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "publish catalog changes that were missed": {
        "task": "routing.publish_catalog",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "merge what gateways see of endpoints": {
        "task": "routing.merge_vitals",
        "schedule": 0.5,
        "options": {"expires": 2},
    },
    "sum what was seen of endpoints by hour and day": {
        "task": "routing.roll_up_vitals",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "sum again all that is kept of endpoints": {
        "task": "routing.roll_up_vitals",
        "schedule": crontab(hour=3, minute=47),
        "kwargs": {"whole": True},
        "options": {"expires": 3600},
    },
    "probe endpoints without traffic": {
        "task": "routing.probe_endpoints",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "compare prices with what their sources state": {
        "task": "routing.watch_prices",
        "schedule": crontab(minute=23),
        "options": {"expires": 3000},
    },
    "delete request logs past their retention": {
        "task": "routing.delete_aged_request_logs",
        "schedule": crontab(minute=53),
        "options": {"expires": 3000},
    },
    "close the last month": {
        "task": "billing.close_month",
        "schedule": crontab(minute=0, day_of_month="1-7"),
        "options": {"expires": 3000},
    },
    "forget sessions of the playground that have ended": {
        "task": "accounts.forget_playground_sessions",
        "schedule": crontab(minute=43),
        "options": {"expires": 3000},
    },
    "deliver webhooks that wait": {
        "task": "accounts.deliver_webhooks",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "send letters about webhooks that waited": {
        "task": "accounts.send_webhook_letters",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "delete events of webhooks past their retention": {
        "task": "accounts.delete_aged_webhook_events",
        "schedule": crontab(minute=13),
        "options": {"expires": 3000},
    },
    "drop months of generations that are no longer kept": {
        "task": "billing.drop_months",
        "schedule": crontab(hour=2, minute=37),
    },
    "make the coming months' partitions": {
        "task": "billing.make_partitions",
        "schedule": crontab(hour=3, minute=17),
    },
}
