"""Between tests that commit, the database is emptied of what they left.

Django's flush truncates every table and makes all permissions anew: a tenth of a second of CPU a test. Here
a function in the database deletes the rows of those tables that have any, in some milliseconds. What stood
there after the migrations (content types, permissions, plans) stands there again, with the ids that it had.
"""

from __future__ import annotations

import time
from typing import Any

from django.db import connection
from django.db.backends.utils import CursorWrapper

_QUIET_SECONDS = 10
_REMEMBER = """
CREATE SCHEMA pristine;
CREATE TABLE pristine.tables AS
    SELECT relname AS name, false AS filled, EXISTS (
        SELECT FROM pg_trigger WHERE tgrelid = pg_class.oid AND NOT tgisinternal
    ) AS guarded
    FROM pg_class
    WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace;
DO $$
DECLARE one record; found boolean;
BEGIN
    FOR one IN SELECT * FROM pristine.tables LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', one.name) INTO found;
        IF found THEN
            UPDATE pristine.tables SET filled = true WHERE name = one.name;
            EXECUTE format('CREATE TABLE pristine.%1$I AS TABLE public.%1$I', one.name);
        END IF;
    END LOOP;
END $$;
CREATE FUNCTION pristine.restore() RETURNS void LANGUAGE plpgsql AS $$
DECLARE one record; differs boolean; wrong record; changed text[] := '{}'; guarded text[] := '{}';
BEGIN
    FOR one IN SELECT * FROM pristine.tables LOOP
        IF one.filled THEN
            EXECUTE format(
                'SELECT EXISTS (SELECT t::text FROM public.%1$I t EXCEPT SELECT t::text FROM pristine.%1$I t)'
                ' OR (SELECT count(*) FROM public.%1$I) <> (SELECT count(*) FROM pristine.%1$I)', one.name
            ) INTO differs;
        ELSE
            EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', one.name) INTO differs;
        END IF;
        IF differs THEN
            changed := changed || one.name;
            IF one.guarded THEN guarded := guarded || one.name; END IF;
        END IF;
    END LOOP;
    SET CONSTRAINTS ALL DEFERRED; -- any order will do
    FOR one IN SELECT unnest(guarded) AS name LOOP -- what is append-only for everybody else
        EXECUTE format('ALTER TABLE public.%I DISABLE TRIGGER USER', one.name);
    END LOOP;
    FOR one IN SELECT unnest(changed) AS name LOOP
        EXECUTE format('DELETE FROM public.%I', one.name);
    END LOOP;
    FOR one IN SELECT name FROM pristine.tables WHERE filled AND name = ANY (changed) LOOP
        EXECUTE format('INSERT INTO public.%1$I SELECT * FROM pristine.%1$I', one.name);
    END LOOP;
    SET CONSTRAINTS ALL IMMEDIATE;
    FOR one IN SELECT unnest(guarded) AS name LOOP
        EXECUTE format('ALTER TABLE public.%I ENABLE TRIGGER USER', one.name);
    END LOOP;
END $$;
"""
_TOLD = "state, pid, application_name, backend_start::text, query"
_OTHERS = """
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def remember() -> None:
    """Once, after the migrations: what the database holds now is what each test shall find."""
    with connection.cursor() as cursor:
        cursor.execute(_REMEMBER)


def restore(_case: Any = None) -> None:
    """In place of `TransactionTestCase._fixture_teardown`.

    A thread that the test has left may be inside a transaction yet. It is awaited: else its rows would come
    after ours were deleted, or the two would lock each other out. One that ended without giving its
    connection back has left a session, which would keep the database from being dropped in the end.
    """
    with connection.cursor() as cursor:
        left = _left(cursor)
        cursor.execute("SELECT pristine.restore()")
    assert not left, f"the test left sessions that are not the pool's, or transactions: {left}"


def leave() -> None:
    """After the last test: whoever has a session yet is told by name, and the database can be dropped."""
    with connection.cursor() as cursor:
        left = _left(cursor)
    assert not left, f"some test left sessions that are not the pool's: {left}"


def _left(cursor: CursorWrapper) -> list[tuple[object, ...]]:
    """After a while: all other sessions, if they are more than the pool has to give. Those are ended here."""
    until, pause = time.monotonic() + _QUIET_SECONDS, 0.01
    while True:
        others = cursor.execute(f"SELECT {_TOLD} {_OTHERS}").fetchall()
        at_hand = connection.pool.get_stats()["pool_available"]
        if len(others) <= at_hand and all(state == "idle" for state, *_ in others):
            return []
        if time.monotonic() > until:
            connection.close_pool()
            return list(cursor.execute(f"SELECT {_TOLD}, pg_terminate_backend(pid) {_OTHERS}").fetchall())
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)
