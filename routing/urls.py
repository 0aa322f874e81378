"""Where routing's pages lie."""

from __future__ import annotations

from django.urls import include, path

from routing.pages import activity, models

_pages = [
    path("activity", activity.activity_list, name="activity"),
    path("activity/<str:generation_id>", activity.call, name="call"),
    path("models", models.models, name="models"),
]

urlpatterns = [path("", include((_pages, "routing")))]
