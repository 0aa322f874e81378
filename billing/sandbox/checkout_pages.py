"""The hosted checkout: what is bought, the card, the 3-D Secure step."""

from __future__ import annotations

from html import escape

from billing.sandbox import card_form, cards, checkout, layout
from billing.sandbox.account import Account
from billing.sandbox.refusals import Refused, Thing

Page = tuple[int, str, dict[str, str]]
_FROM_BANK = (
    '<p><button name="method" value="bank">Pay from a bank account instead</button> '
    '<span class="soft">(the money comes a minute later)</span></p>'
)
_VERBS = {"payment": "Pay", "subscription": "Subscribe", "setup": "Save card"}


def redirect(url: str) -> Page:
    return 303, "", {"location": url}


def show(account: Account, session: Thing, typed: dict[str, str], said: str = "") -> Page:
    if session["status"] != "open":
        return _closed(session)
    return (402 if said else 200), layout.whole("Checkout", _form(account, session, typed, said)), {}


def post(account: Account, session: Thing, typed: dict[str, str]) -> Page:
    """Try to pay: on to 3-D Secure, to the success page, or back to the form with what is wrong."""
    if session["status"] != "open":
        return _closed(session)
    email = typed.get("email", "").strip() or _known_email(account, session)
    save = typed.get("save") == "on"
    try:
        if "@" not in email:
            raise card_form.Mistyped("Your e-mail address is incomplete.")
        chosen = typed.get("method", "new")
        if chosen == "bank" and session["mode"] == "payment":
            checkout.pay_from_bank(account, session, email=email)
            return redirect(success_url(session))
        saved = {method["id"]: method for method in _saved(account, session)}
        if typed.get("number", "").strip():
            chosen = "new"  # whoever types a card means that one
        method = saved.get(chosen) or card_form.read(account, typed, email=email)
        onward = checkout.pay(account, session, method, email=email, save=save)
    except card_form.Mistyped as wrong:
        return show(account, session, typed, str(wrong))
    except Refused as refused:
        return show(account, session, typed, refused.error["message"])
    return redirect(onward or success_url(session))


def success_url(session: Thing) -> str:
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


def show_authentication(account: Account, session: Thing) -> Page:
    if session["status"] != "open" or "_waiting" not in session:
        return _closed(session) if session["status"] != "open" else redirect(f"/c/pay/{session['id']}")
    method = account.get("payment_method", session["_waiting"]["method"])
    amount = "" if session["amount_total"] is None else f" of {layout.dollars(session['amount_total'])}"
    body = (
        "<h1>3-D Secure</h1>"
        f"<p>The bank of the card ending in {method['card']['last4']} asks whether this payment{amount} is "
        'yours.</p><form method="post">'
        '<button class="main" name="result" value="complete">Complete authentication</button> '
        '<p><button name="result" value="fail">Fail authentication</button></p></form>'
    )
    return 200, layout.whole("3-D Secure", body), {}


def post_authentication(account: Account, session: Thing, typed: dict[str, str]) -> Page:
    if session["status"] != "open" or "_waiting" not in session:
        return show_authentication(account, session)
    if typed.get("result") != "complete":
        checkout.fail_authentication(account, session)
        said = "We are unable to authenticate your payment method. Please choose another and try again."
        return show(account, session, {}, said)
    waiting = session.pop("_waiting")
    account.changed(session)
    method = account.get("payment_method", waiting["method"])
    try:
        checkout.pay(
            account, session, method, email=waiting["email"], save=waiting["save"], authenticated=True
        )
    except Refused as refused:
        return show(account, session, {}, refused.error["message"])
    return redirect(success_url(session))


def _closed(session: Thing) -> Page:
    if session["status"] == "complete":
        body = "<h1>You are all done here</h1><p>This checkout was completed.</p>"
        body += layout.link(success_url(session), "Back to the shop")
        return 200, layout.whole("Done", body), {}
    body = "<h1>This link has expired</h1><p>Nothing was charged.</p>"
    return 410, layout.whole("Expired", body + layout.link(session["cancel_url"], "Back to the shop")), {}


def _saved(account: Account, session: Thing) -> list[Thing]:
    return cards.of_customer(account, session["customer"]) if session["customer"] else []


def _known_email(account: Account, session: Thing) -> str:
    customer = account.lookup(session["customer"])
    return str((customer and customer["email"]) or session["customer_email"] or "")


def _form(account: Account, session: Thing, typed: dict[str, str], said: str) -> str:
    email = typed.get("email") or _known_email(account, session)
    saved = _saved(account, session)
    asks = [layout.error(said), '<form method="post">', '<label for="email">E-mail</label>']
    fixed = " readonly" if _known_email(account, session) else ""
    asks.append(
        f'<input id="email" name="email" type="email" autocomplete="email" required{fixed}'
        f' value="{escape(email, quote=True)}">'
    )
    if saved and session["mode"] != "setup":
        asks.append(_choice(saved))
    asks.append(layout.card_fields())
    options = session["saved_payment_method_options"] or {}
    offers = options.get("payment_method_save") == "enabled" and session["customer"]
    if session["mode"] == "payment" and offers:
        asks.append(
            '<label class="tick"><input type="checkbox" name="save">Save this card for later payments</label>'
        )
    verb = _VERBS[session["mode"]]
    amount = f" {layout.dollars(session['amount_total'])}" if session["mode"] == "payment" else ""
    asks.append(f'<button class="main" id="pay">{verb}{amount}</button>')
    if session["mode"] == "payment":
        asks.append(_FROM_BANK)
    asks.append("</form>")
    return "".join(
        [
            _bought(session),
            *asks,
            layout.link(session["cancel_url"], "← Back without paying"),
            layout.test_cards(),
        ]
    )


def _choice(saved: list[Thing]) -> str:
    rows = [
        f'<label class="tick"><input type="radio" name="method" value="{method["id"]}"'
        f"{' checked' if place == 0 else ''}>"
        f"{escape(method['card']['brand'].title())} ending in {method['card']['last4']}</label>"
        for place, method in enumerate(saved)
    ]
    rows.append(
        '<label class="tick"><input type="radio" name="method" value="new">Another card, typed below</label>'
    )
    return f"<fieldset><legend>Card</legend>{''.join(rows)}</fieldset>"


def _bought(session: Thing) -> str:
    if session["mode"] == "setup":
        return "<h1>Save a card</h1><p>It is charged only when you say so, or by your automatic top-up.</p>"
    rows = [
        f"<tr><td>{escape(line['description'])}{_each(line)}</td>"
        f"<td>{layout.dollars(line['amount_subtotal'])}</td></tr>"
        for line in session["_lines"]
    ]
    tax = session["total_details"]["amount_tax"]
    if session["automatic_tax"]["enabled"]:
        rows.append(f"<tr><td>Tax (simulated)</td><td>{layout.dollars(tax)}</td></tr>")
    rows.append(f"<tr><th>Total</th><th>{layout.dollars(session['amount_total'])}</th></tr>")
    return (
        f"<h1>Checkout</h1><p class='total'>{layout.dollars(session['amount_total'])}</p>"
        f"<table>{''.join(rows)}</table>"
    )


def _each(line: Thing) -> str:
    every = line["price"]["recurring"]
    period = f" each {every['interval']}" if every else ""
    return f" × {line['quantity']}{period}" if line["quantity"] != 1 else period
