"""What must stand before anything serves, in one Django process: schema, catalog, demo, Stripe's prices."""

from __future__ import annotations

import sys
from contextlib import nullcontext

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import DatabaseError

from aggregator import packed
from aggregator.embedded import migrating


def main() -> int:
    try:
        django.setup()
        is_behind, is_first = migrating.waiting()
        if is_behind:
            call_command("check")
            with migrating.of_an_empty_database() if is_first else nullcontext():
                call_command("migrate", interactive=False, verbosity=1)
        call_command("sync_catalog")
        call_command("seed")
        packed.pack()
        if settings.STRIPE_API_BASE:
            call_command("stripe_setup")
    except (ImproperlyConfigured, CommandError, DatabaseError) as error:
        # The last line of the log is what the supervisor shows.
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
