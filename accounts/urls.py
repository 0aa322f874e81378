"""Where the pages and the API of WHO lie."""

from __future__ import annotations

from django.urls import include, path

from accounts import api, pages

_pages = [
    path("", pages.landing, name="landing"),
    path("docs", pages.docs, name="docs"),
    path("keys", pages.key_list, name="keys"),
    path("keys/new", pages.key_new, name="key_new"),
    path("keys/<str:key>", pages.key_edit, name="key_edit"),
    path("keys/<str:key>/rotate", pages.key_rotate, name="key_rotate"),
    path("keys/<str:key>/disable", pages.key_disable, name="key_disable"),
    path("keys/<str:key>/enable", pages.key_enable, name="key_enable"),
    path("keys/<str:key>/delete", pages.key_delete, name="key_delete"),
    path("organization", pages.organization, name="organization"),
]

urlpatterns = [
    path("", include((_pages, "accounts"))),
    path("accounts/", include("allauth.account.urls")),
]

api_urlpatterns = [
    path("keys", api.Keys.as_view(), name="keys"),
    path("keys/<str:key>", api.KeyDetail.as_view(), name="key_detail"),
]
