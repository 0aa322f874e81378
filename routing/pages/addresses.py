"""Addresses of pages with what was asked for, and what an address says."""

from __future__ import annotations

from django.urls import reverse
from django.utils.http import urlencode


def address(page: str, **query: str) -> str:
    given = {name: value for name, value in query.items() if value}
    return reverse(page) + (f"?{urlencode(given)}" if given else "")


def whole(text: str) -> int:
    """Where a page starts; anything else is the first."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0
