"""Where the public pages lie."""

from __future__ import annotations

from django.urls import include, path

from aggregator.site import api
from aggregator.site.pages import contact, docs, landing, pricing, status

_pages = [
    path("", landing.landing, name="landing"),
    path("numbers", landing.numbers, name="numbers"),
    path("pricing", pricing.pricing, name="pricing"),
    path("status", status.status, name="status"),
    path("contact", contact.contact, name="contact"),
    path("contact/thanks", contact.thanks, name="thanks"),
    path("docs", docs.docs, name="docs"),
    path("docs/<slug:slug>", docs.doc, name="doc"),
]

api_urlpatterns = [path("openapi.json", api.Description.as_view(), name="openapi")]

urlpatterns = [path("", include((_pages, "site")))]
