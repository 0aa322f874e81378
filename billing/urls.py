"""Where billing's pages and management API lie."""

from __future__ import annotations

from django.urls import include, path

from billing import api, budgets_api, hooks, invoices_api, metrics, usage_api
from billing.pages import acts, budgets, documents, plan, profile, usage, views

api_urlpatterns = [
    path("generation", api.GenerationView.as_view(), name="generation"),
    path("key", api.KeyView.as_view(), name="key"),
    path("credits", api.CreditsView.as_view(), name="credits"),
    path("budgets", budgets_api.Budgets.as_view(), name="budgets"),
    path("budgets/<str:budget>", budgets_api.BudgetDetail.as_view(), name="budget_detail"),
    path("usage", usage_api.UsageView.as_view(), name="usage"),
    path("activity", usage_api.ActivityView.as_view(), name="activity"),
    path("invoices", invoices_api.Invoices.as_view(), name="invoices"),
    path("invoices/current", invoices_api.CurrentInvoice.as_view(), name="invoice_current"),
    path("invoices/<str:invoice>.pdf", invoices_api.InvoicePdf.as_view(), name="invoice_pdf"),
    path("invoices/<str:invoice>.csv", invoices_api.InvoiceCsv.as_view(), name="invoice_csv"),
    path("invoices/<str:invoice>", invoices_api.Invoice.as_view(), name="invoice"),
]

_pages = [
    path("hooks/stripe", hooks.stripe, name="stripe_hook"),
    path("metrics", metrics.metrics, name="metrics"),
    path("usage", usage.show, name="usage"),
    path("usage/export", usage.export, name="usage_csv"),
    path("billing", views.page, name="overview"),
    path("billing/payments/<str:what>/<uuid:payment>", views.payment, name="payment"),
    path("billing/history", views.history, name="history"),
    path("billing/receipts/<uuid:top_up>", views.receipt, name="receipt"),
    path("budgets", budgets.page, name="budgets"),
    path("budgets/new", budgets.new, name="budget_new"),
    path("budgets/alerts", budgets.alerts, name="budget_alerts"),
    path("budgets/low-credit", budgets.low, name="low_credit"),
    path("budgets/<str:budget>", budgets.change, name="budget"),
    path("budgets/<str:budget>/delete", budgets.delete, name="budget_delete"),
    path("billing/top-ups", acts.top_up, name="top_up"),
    path("billing/top-ups/<uuid:top_up>/refund", acts.refund, name="refund"),
    path("billing/auto-top-up", acts.auto_top_up, name="auto_top_up"),
    path("billing/auto-top-up/resume", acts.resume, name="resume"),
    path("billing/portal", acts.portal, name="portal"),
    path("billing/invoices", documents.documents, name="documents"),
    path("billing/invoices/current", documents.running_month, name="running"),
    path("billing/invoices/<uuid:document_id>", documents.document, name="document"),
    path("billing/invoices/<uuid:document_id>.pdf", documents.document_pdf, name="document_pdf"),
    path("billing/invoices/<uuid:document_id>.csv", documents.document_csv, name="document_csv"),
    path("billing/invoices/<uuid:document_id>.json", documents.document_json, name="document_json"),
    path("billing/profile", profile.profile, name="profile"),
    path("billing/address/<str:token>", profile.address, name="address"),
    path("billing/plan/keep", plan.keep, name="keep_plan"),
    path("billing/plan/<str:plan>", plan.change, name="plan"),
]
urlpatterns = [path("", include((_pages, "billing")))]
