"""Where the public pages lie."""

from __future__ import annotations

from django.urls import include, path

from aggregator.site.pages import docs, landing

_pages = [
    path("", landing.landing, name="landing"),
    path("docs", docs.docs, name="docs"),
]

urlpatterns = [path("", include((_pages, "site")))]
