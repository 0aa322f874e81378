"""The migrations say what the models say, and may take their time."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.db.models.signals import pre_migrate

pytestmark = pytest.mark.django_db

_QUICK = """
import django
django.setup()
from django.core.management import call_command
from aggregator.embedded import migrating
assert migrating.waiting() == (True, True)
with migrating.of_an_empty_database():
    call_command("migrate", verbosity=0)
assert migrating.waiting() == (False, False)
"""
_SCHEMA = (
    "SELECT table_name, ordinal_position, column_name, column_default, is_nullable, data_type,"
    " character_maximum_length, numeric_precision, identity_generation, is_generated"
    " FROM information_schema.columns WHERE table_schema = 'public'",
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace",
    "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    "SELECT app, name FROM django_migrations",
    "SELECT app_label, model FROM django_content_type",
    "SELECT codename, name FROM auth_permission",
    "SELECT to_jsonb(billing_plan) - 'created_at' FROM billing_plan",
)


def test_no_model_has_changed_without_a_migration(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        call_command("makemigrations", "--check", "--dry-run")
    except SystemExit:
        pytest.fail(capsys.readouterr().out)


def test_a_migration_may_go_through_a_large_table_and_nothing_else_may() -> None:
    def limit(**_: Any) -> str:
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            seen.append(cursor.fetchone()[0])
        return seen[-1]

    seen: list[str] = []
    before = limit()
    pre_migrate.connect(limit, sender=apps.get_app_config("routing"))
    try:
        call_command("migrate", verbosity=0)
    finally:
        pre_migrate.disconnect(limit, sender=apps.get_app_config("routing"))

    after = limit()
    assert before != "0"
    assert seen == [before, "0", after] and after == before


@pytest.mark.long
def test_the_quick_first_migration_makes_what_django_itself_makes() -> None:
    made = []
    for name, command in (("plain", ["manage.py", "migrate", "-v0"]), ("quick", ["-c", _QUICK])):
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"CREATE DATABASE fairlead_{name}")
        url = os.environ["DATABASE_URL"].rpartition("/")[0] + f"/fairlead_{name}"
        subprocess.run([sys.executable, *command], check=True, env={**os.environ, "DATABASE_URL": url})
        with psycopg.connect(url) as rows:
            made.append([sorted(map(repr, rows.execute(asked).fetchall())) for asked in _SCHEMA])
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE fairlead_{name}")

    assert all(made[0])
    assert made[0] == made[1]
