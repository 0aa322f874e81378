"""The map of the product outside the data plane, which `aggregator.asgi` serves before Django is asked."""

from __future__ import annotations

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path

import accounts.urls
import aggregator.site.urls
import billing.urls
import routing.urls
from aggregator.site import operators

_APPS = (aggregator.site.urls, accounts.urls, billing.urls, routing.urls)
_API = [pattern for app in _APPS for pattern in app.api_urlpatterns]

# Operators sign in where everybody does: with their second factor, and so many tries.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

urlpatterns = [
    path("admin/health", admin.site.admin_view(operators.health), name="operators-health"),
    path("admin/margin", admin.site.admin_view(operators.margin), name="operators-margin"),
    path("admin/", admin.site.urls),
    path("api/v1/", include((_API, "api"))),
    path("v1/", include((_API, "api"), namespace="api-short")),
    path("", include(aggregator.site.urls)),
    path("", include(accounts.urls)),
    # Settings that need the catalog: WHO's by name, shown by WHERE.
    path("", include(([*accounts.urls.pages, *routing.urls.settings_pages], "accounts"))),
    path("", include(billing.urls)),
    path("", include(routing.urls)),
]
