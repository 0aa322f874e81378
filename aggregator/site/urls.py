"""Where the public pages lie."""

from __future__ import annotations

from django.urls import include, path

from aggregator.site import pages

_pages = [
    path("", pages.landing, name="landing"),
    path("docs", pages.docs, name="docs"),
]

urlpatterns = [path("", include((_pages, "site")))]
