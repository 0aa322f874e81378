"""Where the public pages lie."""

from __future__ import annotations

from django.urls import include, path

from aggregator.site import api
from aggregator.site.pages import docs, landing

_pages = [
    path("", landing.landing, name="landing"),
    path("docs", docs.docs, name="docs"),
    path("docs/<slug:slug>", docs.doc, name="doc"),
]

api_urlpatterns = [path("openapi.json", api.Description.as_view(), name="openapi")]

urlpatterns = [path("", include((_pages, "site")))]
