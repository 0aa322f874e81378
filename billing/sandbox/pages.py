"""Which hosted page a path is: checkout, its 3-D Secure step, the portal."""

from __future__ import annotations

from urllib.parse import parse_qsl

from billing.sandbox import checkout_pages, intent_pages, invoice_pages, layout, portal_pages
from billing.sandbox.account import Account
from billing.sandbox.api import Call
from billing.sandbox.refusals import Refused, Thing

Page = tuple[int, str, dict[str, str]]


def serve(account: Account, call: Call) -> Page:
    """Status, HTML and headers."""
    match call.path.strip("/").split("/"):
        case ["c", kind, found_id] if kind in ("pay", "3ds"):
            session = _found(account, "checkout.session", found_id)
            if session is not None:
                return _checkout(account, call, kind, session)
        case ["3ds", found_id]:
            intent = _found(account, "payment_intent", found_id)
            if intent is not None:
                return intent_pages.serve(account, call.method, intent, typed(call))
        case ["p", "session", path]:
            found = next(account.find("billing_portal.session", _path=path), None)
            if found is not None:
                return portal_pages.serve(account, call.method, found, typed(call))
        case ["i", found_id, *rest] if rest in ([], ["pdf"]):
            invoice = _found(account, "invoice", found_id)
            if invoice is not None:
                return invoice_pages.serve(account, call.method, invoice, typed(call))
    return 404, layout.whole("Not found", "<h1>There is nothing here</h1>"), {}


def typed(call: Call) -> dict[str, str]:
    return dict(parse_qsl(call.body.decode(), keep_blank_values=True))


def _checkout(account: Account, call: Call, kind: str, session: Thing) -> Page:
    posts = call.method == "POST"
    if kind == "pay":
        if posts:
            return checkout_pages.post(account, session, typed(call))
        return checkout_pages.show(account, session, {})
    if posts:
        return checkout_pages.post_authentication(account, session, typed(call))
    return checkout_pages.show_authentication(account, session)


def _found(account: Account, kind: str, found_id: str) -> Thing | None:
    try:
        return account.get(kind, found_id)
    except Refused:
        return None
