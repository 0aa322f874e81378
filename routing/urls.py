"""Where routing's pages and management API lie."""

from __future__ import annotations

from django.urls import include, path

from routing import api
from routing.pages import activity, model, models, overview, playground, privacy, request_logs, start

_pages = [
    path("home", start.home, name="home"),
    path("playground", playground.page, name="playground"),
    path("playground/session", playground.session, name="playground_session"),
    path("playground/limit", playground.limit, name="playground_limit"),
    path("start", start.start, name="start"),
    path("start/key", start.start_key, name="start_key"),
    path("start/seen", start.start_seen, name="start_seen"),
    path("start/skip", start.start_skip, name="start_skip"),
    path("overview", overview.show, name="overview"),
    path("activity", activity.activity_list, name="activity"),
    path("activity/new", activity.activity_new, name="activity_new"),
    path("activity/export.csv", activity.activity_export, name="activity_export"),
    path("activity/<str:generation_id>", activity.call, name="call"),
    path("activity/<str:generation_id>/log", request_logs.one, name="request_log"),
    path("activity/<str:generation_id>/log/delete", request_logs.delete_one, name="request_log_delete"),
    path("models", models.models, name="models"),
    path("models/<str:author>/<str:model>", model.model, name="model"),
]

settings_pages = [
    path("settings/privacy", privacy.privacy, name="privacy"),
    path("settings/privacy/logs", request_logs.rules, name="request_logs"),
    path("settings/privacy/logs/off", request_logs.switch_off, name="request_logs_off"),
    path("settings/privacy/logs/delete", request_logs.delete_period, name="request_logs_delete"),
    path("settings/privacy/logs/destroy", request_logs.destroy, name="request_logs_destroy"),
    path("settings/privacy/logs/deletions/<str:deletion>", request_logs.evidence, name="log_deletion"),
]
"""Of the organization, beside WHO's own: they show the catalog, which WHO does not know."""

api_urlpatterns = [path("generation/content", api.ContentView.as_view(), name="generation_content")]

urlpatterns = [path("", include((_pages, "routing")))]
