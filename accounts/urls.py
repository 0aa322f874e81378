"""Where the pages and the API of WHO lie."""

from __future__ import annotations

from django.urls import include, path

from accounts import api
from accounts.pages import keys, organization

pages = [
    path("keys", keys.key_list, name="keys"),
    path("keys/new", keys.key_new, name="key_new"),
    path("keys/<str:key>", keys.key_edit, name="key_edit"),
    path("keys/<str:key>/rotate", keys.key_rotate, name="key_rotate"),
    path("keys/<str:key>/disable", keys.key_disable, name="key_disable"),
    path("keys/<str:key>/enable", keys.key_enable, name="key_enable"),
    path("keys/<str:key>/delete", keys.key_delete, name="key_delete"),
    path("organization", organization.organization, name="organization"),
]

urlpatterns = [
    path("accounts/", include("allauth.account.urls")),
]

api_urlpatterns = [
    path("keys", api.Keys.as_view(), name="keys"),
    path("keys/<str:key>", api.KeyDetail.as_view(), name="key_detail"),
]
