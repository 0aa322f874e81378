"""However many budgets an event tells of, it is no longer than an event may be."""

from __future__ import annotations

import json

import pytest

from accounts.webhooks.events import MOST_BYTES
from billing import thresholds


@pytest.mark.parametrize("subject", ["u", "é" * 250, "𓇳" * 500])
def test_of_however_many_all_are_told_in_order_and_no_event_is_too_long(subject):
    rows = [(f"key {number}", {"subject": subject, "percent": number, "used": "9"}) for number in range(500)]

    parts = list(thresholds._fitting(rows))

    assert [row for part in parts for row in part] == rows
    for (_, first), *others in parts:
        assert len(json.dumps({**first, "others": [data for _, data in others]})) < MOST_BYTES
    assert len(parts) < len(rows) / 5
    assert list(thresholds._fitting([])) == []
