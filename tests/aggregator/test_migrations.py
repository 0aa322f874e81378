"""The migrations say what the models say, and may take their time."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.db.models.signals import pre_migrate

pytestmark = pytest.mark.django_db


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
