"""Where routing's pages lie."""

from __future__ import annotations

from django.urls import include, path

from routing import pages

_pages = [
    path("activity", pages.activity_list, name="activity"),
    path("activity/<str:generation_id>", pages.call, name="call"),
    path("models", pages.models, name="models"),
]

urlpatterns = [path("", include((_pages, "routing")))]
