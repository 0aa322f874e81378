"""The timetable runs once however many schedulers start: one holds a lock in PostgreSQL, others wait for it.

The lock belongs to a connection, so it is free again as soon as its holder has died, or its host after some
seconds without an answer. The database must be reached without a proxy that shares connections among clients
by transaction. Without PostgreSQL nobody ticks: almost no job could do its work.
"""

from __future__ import annotations

from typing import Any

import psycopg
import structlog
from celery.beat import PersistentScheduler
from django.conf import settings

WAIT_SECONDS = 1.0
_LOCK = "SELECT pg_try_advisory_lock(hashtext('beat'), 0)"
_OPTIONS = (
    "-c statement_timeout=5s -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2"
)

log = structlog.get_logger(__name__)


class OnlyOne(PersistentScheduler):
    """Ticks while it holds the lock. What fell due while another held it is run once at the take-over."""

    _connection: psycopg.Connection[Any] | None = None
    _holds = False
    _waits = False

    def tick(self, *args: Any, **kwargs: Any) -> float:
        if not self._is_mine():
            return WAIT_SECONDS
        return float(super().tick(*args, **kwargs))

    def close(self) -> None:
        super().close()
        self._drop()

    def _is_mine(self) -> bool:
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    settings.DATABASE_URL, autocommit=True, connect_timeout=5, options=_OPTIONS
                )
            if self._holds:
                self._connection.execute("SELECT 1")
                return True
            row = self._connection.execute(_LOCK).fetchone()
        except psycopg.Error as error:
            if self._holds or not self._waits:
                log.warning("this scheduler waits for PostgreSQL", error=str(error))
            self._drop()
            self._waits = True
            return False
        self._holds = bool(row and row[0])
        if self._holds:
            log.info("this scheduler ticks")
        elif not self._waits:
            log.info("another scheduler ticks: this one waits")
        self._waits = not self._holds
        return self._holds

    def _drop(self) -> None:
        self._holds = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None
