"""Webhooks: an organization's own URLs, told of events in signed messages by the Standard Webhooks scheme.

`send` writes an event down in the caller's transaction; a job delivers it, as often as it takes.
"""

from accounts.webhooks.events import send

__all__ = ["send"]
