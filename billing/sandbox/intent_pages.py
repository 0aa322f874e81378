"""The 3-D Secure step of a payment that no checkout leads: one confirmed by the API, or an open invoice."""

from __future__ import annotations

from billing.sandbox import charging, layout
from billing.sandbox.account import Account
from billing.sandbox.refusals import Refused, Thing

Page = tuple[int, str, dict[str, str]]


def serve(account: Account, method: str, intent: Thing, typed: dict[str, str]) -> Page:
    if intent["status"] != "requires_action":
        body = f"<h1>Nothing to do</h1><p>This payment is: {intent['status'].replace('_', ' ')}.</p>"
        return 200, layout.whole("3-D Secure", body), {}
    if method != "POST":
        body = (
            f"<h1>3-D Secure</h1><p>Is this payment of {layout.dollars(intent['amount'])} yours?</p>"
            '<form method="post"><button class="main" name="result" value="complete">Complete authentication'
            '</button> <button class="main" name="result" value="fail">Fail authentication</button></form>'
        )
        return 200, layout.whole("3-D Secure", body), {}
    said = finish(account, intent, completed=typed.get("result") == "complete")
    if intent.get("_return_url"):
        return 303, "", {"location": intent["_return_url"]}
    return 200, layout.whole("3-D Secure", f"<h1>{said}</h1>"), {}


def finish(account: Account, intent: Thing, *, completed: bool) -> str:
    """The person's answer. Gives what came of it."""
    card = account.get("payment_method", intent["payment_method"])
    try:
        if not completed:
            raise charging.refuse(account, intent, card, "authentication_required")
        charging.attempt(account, intent, card, off_session=False, authenticated=True)
    except Refused as refused:
        return str(refused.error["message"])
    return "Payment complete"
