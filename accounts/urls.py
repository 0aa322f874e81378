"""Where the pages and the API of WHO lie."""

from __future__ import annotations

from django.urls import include, path

from accounts import api
from accounts.pages import audit, invitations, keys, members, organization, settings, webhooks

pages = [
    path("keys", keys.key_list, name="keys"),
    path("keys/new", keys.key_new, name="key_new"),
    path("keys/<str:key>", keys.key_edit, name="key_edit"),
    path("keys/<str:key>/rotate", keys.key_rotate, name="key_rotate"),
    path("keys/<str:key>/disable", keys.key_disable, name="key_disable"),
    path("keys/<str:key>/enable", keys.key_enable, name="key_enable"),
    path("keys/<str:key>/delete", keys.key_delete, name="key_delete"),
    path("organization", organization.organization, name="organization"),
    path("organization/rules", organization.rules, name="rules"),
    path("organization/new", organization.organization_new, name="organization_new"),
    path("organization/switch", organization.switch, name="switch"),
    path("organization/leave", members.leave, name="leave"),
    path("organization/members", members.member_list, name="members"),
    path("organization/members/<int:member>", members.member, name="member"),
    path("organization/members/<int:member>/remove", members.member_remove, name="member_remove"),
    path("organization/members/<int:member>/transfer", members.member_transfer, name="member_transfer"),
    path(
        "organization/invitations/<int:invitation>/again",
        members.invitation_again,
        name="invitation_again",
    ),
    path(
        "organization/invitations/<int:invitation>/revoke",
        members.invitation_revoke,
        name="invitation_revoke",
    ),
    path("organization/audit", audit.audit, name="audit"),
    path("organization/audit.csv", audit.audit_csv, name="audit_csv"),
    path("settings", settings.profile, name="settings"),
    path("settings/sessions", settings.sessions, name="sessions"),
    path("settings/sessions/<int:session>/end", settings.session_end, name="session_end"),
    path("settings/webhooks", webhooks.webhook_list, name="webhooks"),
    path("settings/webhooks/new", webhooks.webhook_new, name="webhook_new"),
    path("settings/webhooks/<str:webhook>", webhooks.webhook, name="webhook"),
    path("settings/webhooks/<str:webhook>/edit", webhooks.webhook_edit, name="webhook_edit"),
    path("settings/webhooks/<str:webhook>/rotate", webhooks.webhook_rotate, name="webhook_rotate"),
    path("settings/webhooks/<str:webhook>/test", webhooks.webhook_test, name="webhook_test"),
    path("settings/webhooks/<str:webhook>/disable", webhooks.webhook_disable, name="webhook_disable"),
    path("settings/webhooks/<str:webhook>/enable", webhooks.webhook_enable, name="webhook_enable"),
    path("settings/webhooks/<str:webhook>/delete", webhooks.webhook_delete, name="webhook_delete"),
    path("settings/webhook-deliveries/<uuid:delivery>", webhooks.delivery, name="webhook_delivery"),
    path("settings/webhook-deliveries/<uuid:delivery>/again", webhooks.again, name="webhook_again"),
    path("invitations/<str:token>", invitations.invitation, name="invitation"),
]

urlpatterns = [
    path("accounts/", include("allauth.account.urls")),
    path("accounts/2fa/", include("allauth.mfa.urls")),
]

api_urlpatterns = [
    path("keys", api.Keys.as_view(), name="keys"),
    path("keys/<str:key>", api.KeyDetail.as_view(), name="key_detail"),
]
