"""The tables of money: wallets and plans, dated prices, the double-entry ledger, generations, payments.

Amounts are whole nano-dollars in bigints, or whole cents where Stripe moves them. Postings, entries, prices
and generations are only ever added; triggers refuse the rest, so a correction is a new row.
"""

from billing.models.budgets import Budget, BudgetAlert, LowCredit
from billing.models.documents import BillingProfile, Document, DocumentNumber
from billing.models.generations import DroppedMonth, Generation, Spool, Tally
from billing.models.ledger import Account, Entry, Posting, ProvenSum
from billing.models.messages import Alert, Inquiry, JobRun, Letter, StripeEvent
from billing.models.payments import AutoTopUp, Card, Customer, Dispute, FraudWarning, Refund, TopUp
from billing.models.prices import Price
from billing.models.spans import BilledUsage, EndpointSpan, EndUserDay, EndUserMonth, SpeedSpan, UsageSpan
from billing.models.subscriptions import StripeInvoice, Subscription
from billing.models.wallets import AgreedTerms, CreditLot, MonthClose, Plan, Wallet

__all__ = [
    "Account",
    "AgreedTerms",
    "Alert",
    "AutoTopUp",
    "BilledUsage",
    "BillingProfile",
    "Budget",
    "BudgetAlert",
    "Card",
    "CreditLot",
    "Customer",
    "Dispute",
    "Document",
    "DocumentNumber",
    "DroppedMonth",
    "EndUserDay",
    "EndUserMonth",
    "EndpointSpan",
    "Entry",
    "FraudWarning",
    "Generation",
    "Inquiry",
    "JobRun",
    "Letter",
    "LowCredit",
    "MonthClose",
    "Plan",
    "Posting",
    "Price",
    "ProvenSum",
    "Refund",
    "SpeedSpan",
    "Spool",
    "StripeEvent",
    "StripeInvoice",
    "Subscription",
    "Tally",
    "TopUp",
    "UsageSpan",
    "Wallet",
]
