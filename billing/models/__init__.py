"""The tables of money: wallets and plans, dated prices, the double-entry ledger, generations, roll-ups.

Amounts are whole nano-dollars in bigints. Postings, entries, prices and generations are only ever
added; triggers refuse the rest, so a correction is a new row.
"""

from billing.models.generations import Generation, HourlyUsage, Spool, Tally
from billing.models.ledger import Account, Entry, Posting
from billing.models.prices import Price
from billing.models.wallets import Plan, Wallet

__all__ = [
    "Account",
    "Entry",
    "Generation",
    "HourlyUsage",
    "Plan",
    "Posting",
    "Price",
    "Spool",
    "Tally",
    "Wallet",
]
