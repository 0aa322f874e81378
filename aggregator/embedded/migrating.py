"""The first migration of an empty database, in a seventh of the time.

After each operation Django renders the changed model anew, and with it all that are related, which here is
nearly every model: twelve seconds of CPU, of which the statements themselves take one. On an empty database
the changed model will do: its relatives are rendered before Python of a migration looks at any of them. A
database with rows is migrated as Django does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils.module_loading import import_string

_RELATIVES = "_find_reload_model"


@contextmanager
def of_an_empty_database() -> Iterator[None]:
    """Whatever migrates inside must have nothing but the migrations' own rows."""

    def alone(state: Any, app_label: str, model_name: str, delay: bool = False) -> set[object]:
        state.is_delayed = True  # the others are rendered before `RunPython`
        return {(app_label, model_name)}

    models = import_string("django.db.migrations.state.ProjectState")
    before = getattr(models, _RELATIVES)
    setattr(models, _RELATIVES, alone)
    try:
        yield
    finally:
        setattr(models, _RELATIVES, before)


def waiting() -> tuple[bool, bool]:
    """Whether any migration is still to be made, and whether none ever was: by one reading of them all."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return bool(plan), not executor.loader.applied_migrations
