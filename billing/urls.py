"""Where billing's pages and management API lie."""

from __future__ import annotations

from django.urls import include, path

from billing import api, hooks, metrics

api_urlpatterns = [
    path("generation", api.GenerationView.as_view(), name="generation"),
    path("key", api.KeyView.as_view(), name="key"),
    path("credits", api.CreditsView.as_view(), name="credits"),
]

_pages = [
    path("hooks/stripe", hooks.stripe, name="stripe_hook"),
    path("metrics", metrics.metrics, name="metrics"),
]
urlpatterns = [path("", include((_pages, "billing")))]
