"""`manage.py rewrap_log_keys`: seal every log key under the first of LOG_MASTER_KEYS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts import log_keys


class Command(BaseCommand):
    help = "After a new master key was put in front: then the older ones can be taken out and destroyed."

    def handle(self, *args: Any, **options: Any) -> None:
        if not log_keys.available():
            raise CommandError("LOG_MASTER_KEYS is not set.")
        try:
            count = log_keys.rewrap()
        except log_keys.KeyLost as error:
            raise CommandError(
                f"A log key does not open: {error}. Nothing was lost; set its master key."
            ) from error
        self.stdout.write(f"{count} log keys are sealed anew; the first master key now opens all of them.")
