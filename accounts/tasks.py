"""Jobs of WHO."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from accounts import keyring, playground
from accounts.models import Key
from accounts.webhooks import delivery, events, letters, signing
from aggregator.lib import kv


@shared_task(
    name="accounts.publish_key",
    bind=True,
    autoretry_for=(kv.Failed,),
    retry_backoff=1,
    retry_backoff_max=30,
    max_retries=60,
)
def publish_key(self: Any, *, key: str) -> None:
    """Publish the version of a key that could not be published when it changed."""
    row = Key.unscoped.select_related("organization").get(public_id=key)
    keyring.publish(row.public_id, row.organization.public_id, row.version)


@shared_task(
    name="accounts.publish_keys",
    bind=True,
    autoretry_for=(kv.Failed,),
    retry_backoff=1,
    retry_backoff_max=30,
    max_retries=60,
)
def publish_keys(self: Any, *, organization: int) -> None:
    """Publish the versions of all keys of an organization that could not be when they changed."""
    keyring.publish_all(organization)


@shared_task(name="accounts.forget_playground_sessions")
def forget_playground_sessions() -> None:
    """Drop what is left of playground sessions that ended long ago."""
    playground.forget_ended()


@shared_task(name="accounts.deliver_webhooks", ignore_result=True)
def deliver_webhooks() -> None:
    """Right after an event, and every five seconds: send what is due."""
    delivery.deliver_due()


@shared_task(name="accounts.send_webhook_letters", ignore_result=True)
def send_webhook_letters() -> None:
    """Right after a webhook was switched off, and every minute: the letters that say so."""
    letters.send_waiting()


@shared_task(name="accounts.delete_aged_webhook_events", ignore_result=True)
def delete_aged_webhook_events() -> None:
    """Hourly: events past their retention go, and secrets are sealed under the newest key."""
    events.delete_aged()
    signing.reseal()
