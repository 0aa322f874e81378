"""An invoice as its customer sees it, and where an open one is paid by card."""

from __future__ import annotations

from html import escape

from billing.sandbox import card_form, invoices, layout
from billing.sandbox.account import Account
from billing.sandbox.refusals import Refused, Thing

Page = tuple[int, str, dict[str, str]]


def serve(account: Account, method: str, invoice: Thing, typed: dict[str, str]) -> Page:
    said = ""
    if method == "POST" and invoice["status"] == "open":
        try:
            card = card_form.read(account, typed, email=invoice["customer_email"] or "")
            invoices.collect(account, invoice, card, off_session=False)
            intent = invoices.intent_of(account, invoice) or {}
            if intent.get("next_action"):
                return 303, "", {"location": f"/3ds/{intent['id']}"}
        except card_form.Mistyped as wrong:
            said = str(wrong)
        except Refused as refused:
            said = str(refused.error["message"])
    return (402 if said else 200), layout.whole("Invoice", _body(invoice, said)), {}


def _body(invoice: Thing, said: str) -> str:
    rows = [
        f"<tr><td>{escape(line['description'] or '')}</td><td>{layout.dollars(line['amount'])}</td></tr>"
        for line in invoice["lines"]["data"]
    ]
    tax = sum(each["amount"] for each in invoice["total_taxes"])
    if tax:
        rows.append(f"<tr><td>Tax (simulated)</td><td>{layout.dollars(tax)}</td></tr>")
    rows.append(f"<tr><th>Total</th><th>{layout.dollars(invoice['total'])}</th></tr>")
    rows.append(f"<tr><td>Amount due</td><td>{layout.dollars(invoice['amount_due'])}</td></tr>")
    pays = ""
    if invoice["status"] == "open":
        amount = layout.dollars(invoice["amount_remaining"])
        fields = layout.card_fields()
        pays = f'<form method="post">{fields}<button class="main" id="pay">Pay {amount}</button></form>'
    return (
        f"<h1>Invoice {invoice['number'] or ''}</h1><p>{escape(invoice['description'] or '')}</p>"
        f"<p>Status: <strong>{invoice['status']}</strong></p><table>{''.join(rows)}</table>"
        f"{layout.error(said)}{pays}{layout.test_cards() if pays else ''}"
    )
