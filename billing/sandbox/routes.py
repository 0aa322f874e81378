"""The paths of the API: what each takes, by the name of stripe-python's type, and who answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from billing.sandbox import (
    balance,
    checkout,
    clocks,
    customers,
    disputes,
    events,
    invoice_calls,
    payments,
    portal,
    prices,
    refunds,
    schedules,
    subscriptions,
    taxes,
)
from billing.sandbox.account import Account
from billing.sandbox.refusals import Thing

Handler = Callable[..., Thing]
"""Takes the account, the checked parameters and the ids of the path; gives the object or list to answer."""


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    typed: str
    handler: Handler


def own_account(account: Account, params: Thing) -> Thing:
    return next(account.find("account"))


ROUTES = (
    Route("GET", "/v1/account", "AccountRetrieveCurrentParams", own_account),
    # Customers and their cards
    Route("POST", "/v1/customers", "CustomerCreateParams", customers.create),
    Route("GET", "/v1/customers", "CustomerListParams", customers.list_all),
    Route("GET", "/v1/customers/{}", "CustomerRetrieveParams", customers.retrieve),
    Route("POST", "/v1/customers/{}", "CustomerUpdateParams", customers.update),
    Route("DELETE", "/v1/customers/{}", "CustomerDeleteParams", customers.delete),
    Route("GET", "/v1/customers/{}/payment_methods", "CustomerPaymentMethodListParams", customers.methods),
    Route(
        "GET",
        "/v1/customers/{}/payment_methods/{}",
        "CustomerPaymentMethodRetrieveParams",
        customers.method_of_customer,
    ),
    Route("GET", "/v1/payment_methods", "PaymentMethodListParams", customers.all_methods),
    Route("GET", "/v1/payment_methods/{}", "PaymentMethodRetrieveParams", customers.retrieve_method),
    Route("POST", "/v1/payment_methods/{}/attach", "PaymentMethodAttachParams", customers.attach),
    Route("POST", "/v1/payment_methods/{}/detach", "PaymentMethodDetachParams", customers.detach),
    # Checkout
    Route("POST", "/v1/checkout/sessions", "checkout.SessionCreateParams", checkout.create),
    Route("GET", "/v1/checkout/sessions", "checkout.SessionListParams", checkout.list_all),
    Route("GET", "/v1/checkout/sessions/{}", "checkout.SessionRetrieveParams", checkout.retrieve),
    Route("POST", "/v1/checkout/sessions/{}", "checkout.SessionUpdateParams", checkout.update),
    Route("POST", "/v1/checkout/sessions/{}/expire", "checkout.SessionExpireParams", checkout.expire),
    Route(
        "GET",
        "/v1/checkout/sessions/{}/line_items",
        "checkout.SessionLineItemListParams",
        checkout.list_lines,
    ),
    # Payments
    Route("POST", "/v1/payment_intents", "PaymentIntentCreateParams", payments.create),
    Route("GET", "/v1/payment_intents", "PaymentIntentListParams", payments.list_all),
    Route("GET", "/v1/payment_intents/{}", "PaymentIntentRetrieveParams", payments.retrieve),
    Route("POST", "/v1/payment_intents/{}", "PaymentIntentUpdateParams", payments.update),
    Route("POST", "/v1/payment_intents/{}/confirm", "PaymentIntentConfirmParams", payments.confirm),
    Route("POST", "/v1/payment_intents/{}/cancel", "PaymentIntentCancelParams", payments.cancel),
    Route("GET", "/v1/setup_intents", "SetupIntentListParams", payments.list_setups),
    Route("GET", "/v1/setup_intents/{}", "SetupIntentRetrieveParams", payments.retrieve_setup),
    Route("GET", "/v1/charges", "ChargeListParams", payments.list_charges),
    Route("GET", "/v1/charges/{}", "ChargeRetrieveParams", payments.retrieve_charge),
    Route("POST", "/v1/charges/{}", "ChargeUpdateParams", payments.update_charge),
    Route("POST", "/v1/refunds", "RefundCreateParams", refunds.create),
    Route("GET", "/v1/refunds", "RefundListParams", refunds.list_all),
    Route("GET", "/v1/refunds/{}", "RefundRetrieveParams", refunds.retrieve),
    Route("POST", "/v1/refunds/{}", "RefundUpdateParams", refunds.update),
    Route("GET", "/v1/disputes", "DisputeListParams", disputes.list_all),
    Route("GET", "/v1/disputes/{}", "DisputeRetrieveParams", disputes.retrieve),
    Route("POST", "/v1/disputes/{}", "DisputeUpdateParams", disputes.update),
    Route("POST", "/v1/disputes/{}/close", "DisputeCloseParams", disputes.close),
    Route(
        "GET", "/v1/radar/early_fraud_warnings", "radar.EarlyFraudWarningListParams", disputes.list_warnings
    ),
    Route(
        "GET",
        "/v1/radar/early_fraud_warnings/{}",
        "radar.EarlyFraudWarningRetrieveParams",
        disputes.retrieve_warning,
    ),
    Route("GET", "/v1/balance_transactions", "BalanceTransactionListParams", balance.list_all),
    Route("GET", "/v1/balance_transactions/{}", "BalanceTransactionRetrieveParams", balance.retrieve),
    Route("POST", "/v1/tax/calculations", "tax.CalculationCreateParams", taxes.calculate),
    # Products and prices
    Route("POST", "/v1/products", "ProductCreateParams", prices.create_product),
    Route("GET", "/v1/products", "ProductListParams", prices.list_products),
    Route("GET", "/v1/products/{}", "ProductRetrieveParams", prices.retrieve_product),
    Route("POST", "/v1/products/{}", "ProductUpdateParams", prices.update_product),
    Route("POST", "/v1/prices", "PriceCreateParams", prices.create_price),
    Route("GET", "/v1/prices", "PriceListParams", prices.list_prices),
    Route("GET", "/v1/prices/{}", "PriceRetrieveParams", prices.retrieve_price),
    Route("POST", "/v1/prices/{}", "PriceUpdateParams", prices.update_price),
    # Subscriptions and what they become
    Route("POST", "/v1/subscriptions", "SubscriptionCreateParams", subscriptions.create),
    Route("GET", "/v1/subscriptions", "SubscriptionListParams", subscriptions.list_all),
    Route("GET", "/v1/subscriptions/{}", "SubscriptionRetrieveParams", subscriptions.retrieve),
    Route("POST", "/v1/subscriptions/{}", "SubscriptionUpdateParams", subscriptions.update),
    Route("DELETE", "/v1/subscriptions/{}", "SubscriptionCancelParams", subscriptions.cancel),
    Route("GET", "/v1/subscription_items", "SubscriptionItemListParams", subscriptions.items),
    Route("POST", "/v1/subscription_schedules", "SubscriptionScheduleCreateParams", schedules.create),
    Route("GET", "/v1/subscription_schedules", "SubscriptionScheduleListParams", schedules.list_all),
    Route("GET", "/v1/subscription_schedules/{}", "SubscriptionScheduleRetrieveParams", schedules.retrieve),
    Route("POST", "/v1/subscription_schedules/{}", "SubscriptionScheduleUpdateParams", schedules.update),
    Route(
        "POST",
        "/v1/subscription_schedules/{}/release",
        "SubscriptionScheduleReleaseParams",
        schedules.release,
    ),
    Route(
        "POST", "/v1/subscription_schedules/{}/cancel", "SubscriptionScheduleCancelParams", schedules.cancel
    ),
    # Invoices
    Route("POST", "/v1/invoices", "InvoiceCreateParams", invoice_calls.create),
    Route("GET", "/v1/invoices", "InvoiceListParams", invoice_calls.list_all),
    Route("POST", "/v1/invoices/create_preview", "InvoiceCreatePreviewParams", invoice_calls.preview),
    Route("GET", "/v1/invoices/{}", "InvoiceRetrieveParams", invoice_calls.retrieve),
    Route("POST", "/v1/invoices/{}", "InvoiceUpdateParams", invoice_calls.update),
    Route("DELETE", "/v1/invoices/{}", "InvoiceDeleteParams", invoice_calls.delete),
    Route("GET", "/v1/invoices/{}/lines", "InvoiceLineItemListParams", invoice_calls.list_lines),
    Route("POST", "/v1/invoices/{}/add_lines", "InvoiceAddLinesParams", invoice_calls.add_lines),
    Route("POST", "/v1/invoices/{}/finalize", "InvoiceFinalizeInvoiceParams", invoice_calls.finalize),
    Route("POST", "/v1/invoices/{}/pay", "InvoicePayParams", invoice_calls.pay),
    Route("POST", "/v1/invoices/{}/void", "InvoiceVoidInvoiceParams", invoice_calls.void),
    Route(
        "POST",
        "/v1/invoices/{}/mark_uncollectible",
        "InvoiceMarkUncollectibleParams",
        invoice_calls.give_up,
    ),
    Route("GET", "/v1/invoice_payments", "InvoicePaymentListParams", invoice_calls.list_payments),
    Route("GET", "/v1/invoice_payments/{}", "InvoicePaymentRetrieveParams", invoice_calls.retrieve_payment),
    # The portal
    Route("POST", "/v1/billing_portal/sessions", "billing_portal.SessionCreateParams", portal.create_session),
    Route(
        "POST",
        "/v1/billing_portal/configurations",
        "billing_portal.ConfigurationCreateParams",
        portal.create_configuration,
    ),
    Route(
        "GET",
        "/v1/billing_portal/configurations",
        "billing_portal.ConfigurationListParams",
        portal.list_configurations,
    ),
    Route(
        "GET",
        "/v1/billing_portal/configurations/{}",
        "billing_portal.ConfigurationRetrieveParams",
        portal.retrieve_configuration,
    ),
    Route(
        "POST",
        "/v1/billing_portal/configurations/{}",
        "billing_portal.ConfigurationUpdateParams",
        portal.update_configuration,
    ),
    # Test clocks
    Route("POST", "/v1/test_helpers/test_clocks", "test_helpers.TestClockCreateParams", clocks.create),
    Route("GET", "/v1/test_helpers/test_clocks", "test_helpers.TestClockListParams", clocks.list_all),
    Route("GET", "/v1/test_helpers/test_clocks/{}", "test_helpers.TestClockRetrieveParams", clocks.retrieve),
    Route("DELETE", "/v1/test_helpers/test_clocks/{}", "test_helpers.TestClockDeleteParams", clocks.delete),
    Route(
        "POST",
        "/v1/test_helpers/test_clocks/{}/advance",
        "test_helpers.TestClockAdvanceParams",
        clocks.advance,
    ),
    # Events
    Route("GET", "/v1/events", "EventListParams", events.list_all),
    Route("GET", "/v1/events/{}", "EventRetrieveParams", events.retrieve),
    Route("POST", "/v1/webhook_endpoints", "WebhookEndpointCreateParams", events.create_endpoint),
    Route("GET", "/v1/webhook_endpoints", "WebhookEndpointListParams", events.list_endpoints),
    Route("GET", "/v1/webhook_endpoints/{}", "WebhookEndpointRetrieveParams", events.retrieve_endpoint),
    Route("POST", "/v1/webhook_endpoints/{}", "WebhookEndpointUpdateParams", events.update_endpoint),
    Route("DELETE", "/v1/webhook_endpoints/{}", "WebhookEndpointDeleteParams", events.delete_endpoint),
)


_COMPILED = [
    (route, re.compile("^" + re.escape(route.path).replace(r"\{\}", "([^/]+)") + "$")) for route in ROUTES
]


def find(method: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
    """The route of a request and the ids in its path. A fixed word goes before an id."""
    found: list[tuple[int, Route, tuple[str, ...]]] = []
    for route, pattern in _COMPILED:
        if route.method == method and (match := pattern.match(path)):
            found.append((len(match.groups()), route, match.groups()))
    if not found:
        return None
    _, route, ids = min(found, key=lambda each: each[0])
    return route, ids
