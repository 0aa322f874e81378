"""The hosted portal: cards, the subscription's end, invoices; what its configuration allows."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape

from billing.sandbox import card_form, cards, customers, invoices, layout, subscriptions
from billing.sandbox.account import Account
from billing.sandbox.refusals import Refused, Thing

Page = tuple[int, str, dict[str, str]]


def serve(account: Account, method: str, session: Thing, typed: dict[str, str]) -> Page:
    said = ""
    if method == "POST":
        try:
            _do(account, session, typed)
            return 303, "", {"location": session["url"]}
        except card_form.Mistyped as wrong:
            said = str(wrong)
        except Refused as refused:
            said = str(refused.error["message"])
    return (402 if said else 200), layout.whole("Billing", _body(account, session, said)), {}


def _features(account: Account, session: Thing) -> Thing:
    found: Thing = account.get("billing_portal.configuration", session["configuration"])["features"]
    return found


def _do(account: Account, session: Thing, typed: dict[str, str]) -> None:
    """What a button asks; only of this customer's own, and only what is allowed."""
    customer = customers.existing(account, session["customer"])
    features = _features(account, session)
    match typed.get("action"):
        case "add" if features["payment_method_update"]["enabled"]:
            _add_card(account, customer, typed)
        case "default" if features["payment_method_update"]["enabled"]:
            method = customers.method_of_customer(account, {}, customer["id"], typed.get("id", ""))
            _make_default(account, customer, method)
        case "remove" if features["payment_method_update"]["enabled"]:
            method = customers.method_of_customer(account, {}, customer["id"], typed.get("id", ""))
            customers.drop_card(account, method)
        case "cancel" | "resume" as verb if features["subscription_cancel"]["enabled"]:
            subscription = _own(account, "subscription", customer, typed)
            if verb == "cancel" and features["subscription_cancel"]["mode"] == "immediately":
                subscriptions.cancel(account, {}, subscription["id"])
            else:
                wanted = {"cancel_at_period_end": verb == "cancel"}
                subscriptions.update(account, wanted, subscription["id"])
        case "pay" if features["invoice_history"]["enabled"]:
            invoice = _own(account, "invoice", customer, typed)
            invoices.collect(account, invoice, invoices.card_for(account, invoice), off_session=True)
        case _:
            raise card_form.Mistyped("This cannot be done here.")


def _own(account: Account, kind: str, customer: Thing, typed: dict[str, str]) -> Thing:
    found = account.get(kind, typed.get("id", ""))
    if found["customer"] != customer["id"]:
        raise card_form.Mistyped("This cannot be done here.")
    return found


def _add_card(account: Account, customer: Thing, typed: dict[str, str]) -> None:
    method = card_form.read(account, typed, email=customer["email"] or "")
    customers.keep_card(account, method, customer["id"], authenticated=True)
    if len(cards.of_customer(account, customer["id"])) == 1:
        _make_default(account, customer, method)


def _make_default(account: Account, customer: Thing, method: Thing) -> None:
    wanted = {"invoice_settings": {"default_payment_method": method["id"]}}
    customers.update(account, wanted, customer["id"])
    for subscription in account.find("subscription", customer=customer["id"]):
        if subscription["status"] not in subscriptions.OVER:
            subscription["default_payment_method"] = method["id"]
            account.changed(subscription)


# ── What it shows ────────────────────────────────────────────────────────────────────────────────


def _body(account: Account, session: Thing, said: str) -> str:
    customer = customers.existing(account, session["customer"])
    features = _features(account, session)
    parts = [f"<h1>Billing of {escape(customer['email'] or customer['id'])}</h1>", layout.error(said)]
    parts.append(layout.link(session["return_url"], "← Back to the shop"))
    parts.append(_subscriptions(account, customer, features["subscription_cancel"]["enabled"]))
    parts.append(_cards(account, customer, features["payment_method_update"]["enabled"]))
    if features["invoice_history"]["enabled"]:
        parts.append(_invoices(account, customer))
    return "".join(parts)


def _button(action: str, text: str, found_id: str, about: str = "") -> str:
    label = f' aria-label="{escape(f"{text}: {about}", quote=True)}"' if about else ""
    return (
        f'<form method="post"><input type="hidden" name="action" value="{action}">'
        f'<input type="hidden" name="id" value="{found_id}"><button{label}>{text}</button></form>'
    )


def _date(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%d}"


def _subscriptions(account: Account, customer: Thing, may_cancel: bool) -> str:
    rows = []
    for subscription in account.find("subscription", customer=customer["id"]):
        if subscription["status"] in subscriptions.OVER:
            continue
        item = subscription["items"]["data"][0]
        product = account.get("product", item["price"]["product"])
        amount = layout.dollars(item["price"]["unit_amount"] * item["quantity"])
        ends = _date(item["current_period_end"])
        told = f"ends on {ends}" if subscription["cancel_at_period_end"] else f"renews on {ends}"
        row = f"<span>{escape(product['name'])}, {amount} each {item['price']['recurring']['interval']}; "
        row += f"{subscription['status'].replace('_', ' ')}, {told}</span>"
        if may_cancel and not subscription["schedule"]:
            verb = (
                ("resume", "Do not cancel") if subscription["cancel_at_period_end"] else ("cancel", "Cancel")
            )
            row += _button(*verb, subscription["id"])
        rows.append(f'<div class="row">{row}</div>')
    return f"<h2>Subscription</h2>{''.join(rows) or '<p>None.</p>'}"


def _cards(account: Account, customer: Thing, may_change: bool) -> str:
    default = customer["invoice_settings"]["default_payment_method"]
    rows = []
    for method in cards.of_customer(account, customer["id"]):
        card = method["card"]
        about = f"{card['brand'].title()} ending in {card['last4']}"
        row = f"<span>{about}, {card['exp_month']:02}/{card['exp_year']}"
        row += " <strong>default</strong></span>" if method["id"] == default else "</span>"
        if may_change:
            row += "" if method["id"] == default else _button("default", "Make default", method["id"], about)
            row += _button("remove", "Remove", method["id"], about)
        rows.append(f'<div class="row">{row}</div>')
    adds = ""
    if may_change:
        adds = (
            '<h2>Add a card</h2><form method="post"><input type="hidden" name="action" value="add">'
            f'{layout.card_fields()}<button class="main">Add card</button></form>{layout.test_cards()}'
        )
    return f"<h2>Cards</h2>{''.join(rows) or '<p>None saved.</p>'}{adds}"


def _invoices(account: Account, customer: Thing) -> str:
    rows = []
    for invoice in account.find("invoice", customer=customer["id"]):
        if invoice["status"] == "draft":
            continue
        pays = _button("pay", "Pay", invoice["id"], invoice["number"]) if invoice["status"] == "open" else ""
        rows.append(
            f"<tr><td>{_date(invoice['created'])}</td><td>{invoice['number']}</td>"
            f"<td>{layout.dollars(invoice['total'])}</td><td>{invoice['status']}{pays}</td></tr>"
        )
    return f"<h2>Invoices</h2><table>{''.join(rows)}</table>" if rows else "<h2>Invoices</h2><p>None.</p>"
