"""What only a test or a person at the machine may do: `/_sandbox/…`, JSON in and out, no key.

It is reachable on loopback alone, where the sandbox listens.
"""

from __future__ import annotations

from collections.abc import Callable

from billing.sandbox import charging, checkout, clocks, disputes, refunds
from billing.sandbox.account import Account, shown
from billing.sandbox.deliveries import Deliveries
from billing.sandbox.mishaps import Mishaps
from billing.sandbox.refusals import Invalid, Thing, no_such_path


class Control:
    def __init__(self, account: Account, deliveries: Deliveries, mishaps: Mishaps) -> None:
        self._account = account
        self._deliveries = deliveries
        self._mishaps = mishaps
        self._does: dict[tuple[str, str], Callable[[Thing], object]] = {
            ("GET", "health"): lambda told: {"ok": True},
            ("GET", "webhooks"): lambda told: {**deliveries.modes, "deliveries": deliveries.told()},
            ("POST", "webhooks"): self._set_webhooks,
            ("POST", "webhooks/release"): lambda told: {"released": deliveries.release()},
            ("POST", "webhooks/send"): self._send,
            ("GET", "mishaps"): lambda told: {"waiting": mishaps.waiting()},
            ("POST", "mishaps"): self._arrange,
            ("POST", "disputes"): self._dispute,
            ("POST", "disputes/resolve"): self._resolve,
            ("POST", "fraud_warnings"): self._warn,
            ("POST", "refunds/fail"): self._fail_refund,
            ("POST", "payments/settle"): self._settle,
            ("POST", "fees"): self._fees,
            ("POST", "clock/advance"): self._advance,
            ("GET", "objects"): self._objects,
            ("POST", "reset"): self._reset,
        }

    def serve(self, method: str, what: str, told: Thing) -> object:
        """Gives what to answer as JSON; `Refused` where it cannot be done."""
        does = self._does.get((method, what))
        if does is None:
            raise no_such_path(method, f"/_sandbox/{what}")
        try:
            return does(told)
        except KeyError as error:
            raise Invalid(f"{error.args[0]} is missing", param=str(error.args[0])) from None
        finally:
            self._account.flush()

    def _set_webhooks(self, told: Thing) -> Thing:
        """Modes by name, and `url` with `secret` to send elsewhere."""
        modes = self._deliveries.modes
        unknown = set(told) - set(modes) - {"url", "secret"}
        if unknown:
            raise Invalid(f"No such mode: {', '.join(sorted(unknown))}", param=min(unknown))
        if "url" in told:
            self._deliveries.point_to(told["url"], told.get("secret", ""))
        modes |= {name: value for name, value in told.items() if name in modes}
        return modes

    def _send(self, told: Thing) -> Thing:
        """Deliver `event` once more."""
        self._deliveries.send(self._account.get("event", told["event"], "event"))
        return {"ok": True}

    def _arrange(self, told: Thing) -> Thing:
        if told.get("clear"):
            self._mishaps.clear()
        else:
            self._mishaps.arrange(told)
        return {"ok": True}

    def _charge(self, told: Thing) -> Thing:
        """`charge`, or the latest charge of `payment_intent`."""
        if "payment_intent" in told:
            intent = self._account.get("payment_intent", told["payment_intent"], "payment_intent")
            return self._account.get("charge", intent["latest_charge"] or "", "payment_intent")
        return self._account.get("charge", told["charge"], "charge")

    def _dispute(self, told: Thing) -> Thing:
        """`charge` or `payment_intent`; `reason`, `amount` and `inquiry` where given."""
        made = disputes.open_dispute(
            self._account,
            self._charge(told),
            reason=told.get("reason", "fraudulent"),
            amount=told.get("amount", 0),
            inquiry=told.get("inquiry", False),
        )
        return dict(shown(made))

    def _resolve(self, told: Thing) -> Thing:
        """`dispute`, `won`."""
        found = self._account.get("dispute", told["dispute"], "dispute")
        return dict(shown(disputes.resolve(self._account, found, won=told["won"])))

    def _warn(self, told: Thing) -> Thing:
        return dict(shown(disputes.warn(self._account, self._charge(told))))

    def _fail_refund(self, told: Thing) -> Thing:
        found = self._account.get("refund", told["refund"], "refund")
        return dict(shown(refunds.fail(self._account, found)))

    def _settle(self, told: Thing) -> Thing:
        """`payment_intent` of a bank account; `succeeds`, or not."""
        intent = self._account.get("payment_intent", told["payment_intent"], "payment_intent")
        checkout.settle_later(self._account, intent, succeeds=told["succeeds"])
        return dict(shown(intent))

    def _fees(self, told: Thing) -> Thing:
        """`late`: charges get their balance transaction only when this is called with false."""
        self._account.settings["late_fees"] = told["late"]
        self._account.changed(self._account.settings)
        return {"written": 0 if told["late"] else charging.note_late_fees(self._account)}

    def _advance(self, told: Thing) -> Thing:
        """Everybody's time, but for customers with a test clock, by `seconds`."""
        return {"now": clocks.advance_everybody(self._account, int(told["seconds"]))}

    def _objects(self, told: Thing) -> Thing:
        """Everything of a `customer`, or everything, by kind; the oldest first."""
        wanted = told.get("customer")
        found: Thing = {}
        for thing in self._account.everything():
            kind = thing["object"]
            belongs = wanted in (None, thing["id"], thing.get("customer"))
            if not kind.startswith("_") and kind != "event" and belongs:
                found.setdefault(kind, []).append(shown(thing))
        return found

    def _reset(self, told: Thing) -> Thing:
        self._deliveries.reset()
        self._mishaps.clear()
        self._account.reset()
        return {"ok": True}
