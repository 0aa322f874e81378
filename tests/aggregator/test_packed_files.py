"""Static files travel compressed, and never in the state of yesterday."""

from __future__ import annotations

import gzip
import os

import pytest
from django.test import RequestFactory

from aggregator import packed

pytestmark = pytest.mark.django_db
"""Closing an answer looks after the connections that its process has opened before."""

URL = "/static/fairlead/app.css"


def get(**headers: str):
    served = packed.StaticFiles(lambda request: None)(RequestFactory().get(URL, headers=headers))
    body = b"".join(served.streaming_content)
    served.close()
    return served, body


def test_what_was_packed_is_served_to_who_takes_it_and_what_has_changed_since_is_not(settings, tmp_path):
    settings.VAR_DIR = tmp_path
    plain, body = get(**{"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers

    assert packed.pack() > 10 and packed.pack() == 0
    zipped, short = get(**{"Accept-Encoding": "gzip"})

    assert zipped.headers["Content-Encoding"] == "gzip" and gzip.decompress(short) == body
    assert zipped.headers["Content-Type"] == plain.headers["Content-Type"]
    assert zipped.headers["Vary"] == "Accept-Encoding" and int(zipped.headers["Content-Length"]) == len(short)
    assert get()[1] == body

    place = tmp_path / "static" / "fairlead" / "app.css.gz"
    os.utime(place, (1, 1))
    assert get(**{"Accept-Encoding": "gzip"})[1] == body
