"""Triggers that keep what money is made of: rows that are only ever added, postings that balance."""

from __future__ import annotations

import pgtrigger

APPEND_ONLY = pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)

ONLY_BURNS = pgtrigger.Trigger(
    name="only_burns",
    operation=pgtrigger.Update | pgtrigger.Delete,
    when=pgtrigger.Before,
    func="""
IF TG_OP = 'UPDATE' AND to_jsonb(OLD) - 'remaining_nanos' = to_jsonb(NEW) - 'remaining_nanos' THEN
    RETURN NEW;
END IF;
RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;
""",
)
"""Of a lot of credit nothing changes but what is left of it."""


_BALANCED = """
IF (SELECT coalesce(sum(nanos), 1) FROM billing_entry WHERE posting_id = {posting}) <> 0 THEN
    RAISE EXCEPTION 'posting % does not balance', {posting} USING ERRCODE = 'check_violation';
END IF;
RETURN NULL;
"""


def balanced(posting: str) -> pgtrigger.Trigger:
    """At commit, the entries of a posting sum to zero, and there are some (no entry counts as 1)."""
    return pgtrigger.Trigger(
        name="balanced",
        operation=pgtrigger.Insert,
        when=pgtrigger.After,
        timing=pgtrigger.Deferred,
        func=_BALANCED.format(posting=posting),
    )
